"""The report on a `.tflite` as one HTML page that needs no other file."""

import html
from collections.abc import Sequence

from converters.report import analysis, application, arena_picture, tflm_text

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; color: #1b2631; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .25em .9em; border-bottom: 1px solid #d5d8dc; text-align: left; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f4f6f7; padding: 1em; overflow-x: auto; font-size: 13px; }
svg { width: 100%; height: auto; }
"""


def _table(heads: list[str], rows: list[list[str]], numbers: int) -> str:
    """A table whose last `numbers` columns are numbers."""

    def row(tag: str, cells: list[str]) -> str:
        first = len(heads) - numbers
        return "".join(
            f"<{tag}{' class=n' if at >= first else ''}>{html.escape(cell)}</{tag}>"
            for at, cell in enumerate(cells)
        )

    lines = [f"<tr>{row('th', heads)}</tr>", *(f"<tr>{row('td', cells)}</tr>" for cells in rows)]
    return "<table>" + "\n".join(lines) + "</table>"


def _paragraphs(lines: Sequence[str]) -> str:
    return "\n".join(f"<p>{html.escape(line.strip())}</p>" for line in lines if line.strip())


def _arena(found: analysis.Analysis) -> str:
    if not found.arena:
        return _paragraphs(tflm_text.arena(found))
    rows, notes = [], []
    for p in found.arena:
        figures = [f"{p.bytes:,}", f"{p.head_bytes:,}", f"{p.tail_bytes:,}"]
        kernels = "CMSIS-NN" if p.target.cmsis else "reference"
        rows.append([p.target.core, kernels, *(["–"] * 3 if p.refused else figures)])
        if p.refused or p.unknown:
            notes.append(tflm_text.arena_line(p))
    text = tflm_text.arena(found)
    after = text[2 + len(found.arena) :]
    table = _table(["target", "kernels", "arena", "head", "tail"], rows, 3)
    return _paragraphs(text[:1]) + table + _paragraphs([*notes, *after])


def whole(found: analysis.Analysis, npu: Sequence[str] = ()) -> str:
    """Returns the page; `npu` is the section on NPUs, in lines."""
    title = html.escape(f"{found.name} on TensorFlow Lite Micro")
    counts = [[name, types, f"{count:,}"] for name, types, count in found.operator_counts()]
    picture = ""
    if found.map is not None:
        heading = f"{found.name}: arena on {found.mapped.label}"
        picture = arena_picture.svg(found.map, heading, tflm_text.parts(found))
        picture += f"<pre>{html.escape(chr(10).join(tflm_text.peak(found.map)))}</pre>"
    else:
        picture = _paragraphs(tflm_text.layout(found))
    code = tflm_text.code(found)
    head = [line for line in tflm_text.summary(found) if "×" not in line or "put: " in line]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            _paragraphs([*head, *tflm_text.judgement(found)]),
            "<h2>Arena</h2>",
            _arena(found),
            _paragraphs(found.work.lines()),
            picture,
            "<h2>Operators</h2>",
            _table(["operator", "outputs", "count"], counts, 1),
            "<h2>Application</h2>",
            _paragraphs(application.advice(found.needs)),
            _paragraphs(npu),
            f"<pre>{html.escape(code)}</pre>",
            "</body></html>",
            "",
        ]
    )
