r"""Prints what FULLY_CONNECTED filters of 4 bits bring and cost a portable graph on TFLM.

  python -m converters.benchmarks.filters --model=zoo/snips --data=valid.csv \
    --tflm_dir=DIR --library=mps2-an386=LIB

Two rows, with filters of 8 bits and of 4 (`converters.pack_filters`): bytes of the file, accuracy
on the rows of --data on the real TFLM, the smallest arena that runs on this 64-bit host. For each
--library, as for `converters.benchmarks.tflm`, also instructions of the longest text, arena and
flash on that board.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from absl import flags

import converters
from converters.benchmarks import libraries, tflm
from converters.portable import int4_filters
from converters.tflm import arena_probe
from embbert_tf import cli
from embbert_tf.data import files

_METRICS = ("accuracy", "pearson")


def rows(
    folder: pathlib.Path,
    csv: files.PathLike | None,
    pairs: Sequence[libraries.Library],
    headers: pathlib.Path,
    limit: int = 0,
) -> list[dict[str, Any]]:
    """Measures the model as it is, and with packed filters.

    Args:
        folder: Of the model.
        csv: Rows to measure on; None for none.
        pairs: Boards to measure on, each with TFLM's library for it.
        headers: TFLM's; of no matter without boards.
        limit: Rows to draw; 0 takes all.

    Returns:
        Two rows: bits, bytes, the task's metric, host arena, and of each board what
        `tflm.measure` says.

    Raises:
        EmbBertError: The model has no filter to pack; the rows cannot be used; a board's program
            cannot be built or run.
    """
    model = converters.load_model(folder)
    packed = int4_filters.pack(model.tflite)
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        for bits, tflite in ((8, model.tflite), (4, packed.tflite)):
            path = pathlib.Path(temporary) / f"{bits}.tflite"
            files.write_bytes(path, tflite)
            row: dict[str, Any] = {"bits": bits, "bytes": len(tflite)}
            row["arena"] = arena_probe.measure(path)["smallest_bytes"]
            if csv is not None:
                measured = dataclasses.replace(model, tflite=tflite).evaluate(csv, limit)
                row["metric"] = next(measured[name] for name in _METRICS if name in measured)
            row["boards"] = [
                tflm.measure(folder, str(path), board, library, headers) for board, library in pairs
            ]
            found.append(row)
    return found


def table(name: str, found: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as a Markdown table."""
    heads = ["model", "filters", "`.tflite`", "accuracy, %", "arena, host"]
    for board in found[0]["boards"]:
        core = f"{board['core']}, {board['kernels']}"
        heads += [f"arena, {core}", f"instructions, {core}"]
    lines = ["| " + " | ".join(heads) + " |", "| --- | --- |" + " ---: |" * (len(heads) - 2)]
    for row in found:
        metric = f"{100 * row['metric']:.2f}" if "metric" in row else ""
        cells = [name, f"{row['bits']} bits", f"{row['bytes']:,}", metric, f"{row['arena']:,}"]
        for board in row["boards"]:
            count = board["instructions"][max(board["instructions"])]
            cells += [f"{board['arena_bytes']:,}", f"{count / 1e6:.2f} M"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    strings = {
        "model": "Model folder.",
        "data": "CSV to measure on; without it accuracy is left out.",
    }
    for name, meaning in strings.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_integer(
        "limit", 0, "Rows of --data to draw; 0 takes all.", lower_bound=0, flag_values=values
    )
    libraries.define_flags(values)
    flags.mark_flag_as_required("model", values)


def main(values: flags.FlagValues) -> None:
    """Prints the table."""
    pairs = libraries.given(values.library, values.tflm_dir)
    folder, headers = pathlib.Path(values.model), pathlib.Path(values.tflm_dir or "")
    print(table(folder.name, rows(folder, values.data, pairs, headers, values.limit)))


if __name__ == "__main__":
    cli.run(define_flags, main)
