r"""Measures plain conversion, portable graph and fused graph on TFLM, and prints one table.

  python -m converters.benchmarks.tflm --model=zoo/imdb --plain=plain.tflite \
    --tflm_dir=DIR --library=mps2-an386=LIB --library=mps3-an547=LIB

Each --library is a libtensorflow-microlite.a for a board of tflm_app; whether it has TFLM's
reference kernels or CMSIS-NN's is read from its symbols. Instructions of one inference, counted
exactly in the emulator, and the same on every run; arena: the smallest that runs; flash from the
linker's map.
"""

import json
import pathlib
import re
import subprocess
import sys
from typing import Any

from absl import flags

from converters.benchmarks import libraries
from converters.firmware import size_arena, sources
from embbert_tf import cli, errors
from embbert_tf.data import files

# Numbers of tokens to measure, and the most that the model takes.
LENGTHS = (12, 64)
_CORES = {"mps2-an386": "M4", "mps2-an500": "M7", "mps3-an547": "M55", "cortex-m4-64k": "M4"}
# Columns of the flash split, in the order of the table, and the parts of size_report.py in them.
_FLASH = {
    "weights": ("weights",),
    "tokenizer": ("tokenizer", "tokenizer tables"),
    "TFLM": ("TFLM core",),
    "kernels": ("TFLM kernels", "kernels"),
    "app": ("application", "libc"),
}


class BenchmarkError(errors.EmbBertError):
    """A configuration could not be built or measured; the message says which."""


def measure(
    folder: pathlib.Path, graph: str, target: str, library: pathlib.Path, tflm_dir: pathlib.Path
) -> dict[str, Any]:
    """Builds one program and measures it.

    Args:
        folder: Model folder.
        graph: "portable", "fused" or the path of a `.tflite`.
        target: Board of tflm_app.
        library: libtensorflow-microlite.a for it.
        tflm_dir: TFLM's headers.

    Returns:
        A row: graph, target, kernels, instructions by number of tokens, arena_bytes, flash by part.

    Raises:
        BenchmarkError: The build or a run failed.
    """
    make = ["make", "-s", "-C", str(sources.firmware()), "RUNTIME=tflm", f"TARGET={target}"]
    make += [f"MODEL={folder.resolve()}", f"GRAPH={graph}", f"TFLM_DIR={tflm_dir.resolve()}"]
    make += [f"TFLM_LIB={library.resolve()}"]
    built = subprocess.run([*make, "tflm_paths"], capture_output=True, text=True, check=False)
    where = f"{graph} on {target} with {library}"
    if built.returncode != 0:
        raise BenchmarkError(f"{where}: {(built.stderr or built.stdout).strip().splitlines()[-1]}")
    paths = json.loads(built.stdout.strip().splitlines()[-1])
    out, generated = pathlib.Path(paths["out"]), pathlib.Path(paths["generated"])
    trial = size_arena.Trial(pathlib.Path(paths["trial"]), paths["machine"])
    instructions, max_length, smallest = _run(trial, out, generated, where)
    sized = subprocess.run([*make, "size"], capture_output=True, text=True, check=False)
    if sized.returncode != 0:
        raise BenchmarkError(f"{where}: {sized.stderr.strip()}")
    flash = json.loads(sized.stdout.strip().splitlines()[-1])["flash"]
    return {
        "graph": graph if graph in ("portable", "fused") else "plain",
        "target": target,
        "core": _CORES.get(target, target),
        "kernels": paths["kernels"],
        "max_length": max_length,
        "instructions": instructions,
        "arena_bytes": smallest,
        "flash": {name: sum(flash[part] for part in parts) for name, parts in _FLASH.items()},
    }


def _run(
    trial: size_arena.Trial, out: pathlib.Path, generated: pathlib.Path, where: str
) -> tuple[dict[int, int], int, int]:
    """Returns instructions by number of tokens, the longest text in tokens, the smallest arena."""
    text = (out / "arena_size.h").read_text()
    smallest = int(_figure(r"correctly: (\d+)", text))
    arena = int(_figure(r"MODEL_ARENA_BYTES (\d+)u", text))
    max_length = int(_figure(r"MODEL_MAX_LENGTH (\d+)", (generated / "model_shape.h").read_text()))
    instructions = {}
    for tokens in sorted({*(n for n in LENGTHS if n < max_length), max_length}):
        answer = trial.run(arena, tokens)
        if answer is None:
            raise BenchmarkError(f"{where}: {trial.last_words}")
        instructions[tokens] = answer["instructions"]
    return instructions, max_length, smallest


def _figure(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found, f"{pattern} in {text}"
    return found[1]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table; instructions in millions, bytes as they are."""
    lengths = sorted({n for row in rows for n in row["instructions"]})
    heads = ["graph", "core", "kernels", *(f"n={n}" for n in lengths), "arena", *_FLASH, "flash"]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * 3 + "| ---: " * (len(heads) - 3) + "|"]
    for row in rows:
        cells = [row["graph"], row["core"], row["kernels"]]
        for n in lengths:
            count = row["instructions"].get(n)
            cells.append("" if count is None else f"{count / 1e6:.2f}")
        cells.append(f"{row['arena_bytes']:,}")
        cells += [f"{size:,}" for size in row["flash"].values()]
        cells.append(f"{sum(row['flash'].values()):,}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    strings = {
        "model": "Model folder.",
        "plain": "Plain conversion of the same model, a .tflite.",
        "json": "Write the rows to this file too.",
    }
    for name, meaning in strings.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    libraries.define_flags(values)
    flags.mark_flags_as_required(["model", "tflm_dir", "library"], flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Prints the table; exit status 1 if a configuration could not be measured."""
    pairs = libraries.given(values.library, values.tflm_dir)
    rows, failures = [], 0
    graphs = [str(pathlib.Path(values.plain).resolve())] if values.plain else []
    model, headers = pathlib.Path(values.model), pathlib.Path(values.tflm_dir)
    for graph in [*graphs, "portable", "fused"]:
        for target, library in pairs:
            try:
                row = measure(model, graph, target, library, headers)
            except BenchmarkError as error:
                print(f"tflm: {error}", file=sys.stderr)
                failures += 1
                continue
            rows.append(row)
            print(json.dumps(row), file=sys.stderr)
    print("million instructions an inference; bytes of arena (smallest that runs) and flash")
    print(table(rows))
    if values.json is not None:
        files.write_text(values.json, json.dumps(rows, indent=1) + "\n")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(define_flags, main)
