r"""Measures arenas on emulated boards and holds the predictions of `tflm_report` against them.

  python -m converters.benchmarks.arena --tflm_dir=DIR --library=mps2-an386=LIB \
    --library=mps3-an547=LIB --json=converters/benchmarks/arena.json

Each --library is a whole libtensorflow-microlite.a (all kernels) for a board of tflm_app. Models:
those of the zoo, portable and fused, those of `arena_models` in --models (made there where they are
missing), and every --file. Rows of models and targets that are not measured this time stay as they
are in --json. --keep puts the models of `arena_models` into a ZIP, for tests without TensorFlow.
"""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from absl import app, flags

from converters.benchmarks import arena_models, arena_program, libraries
from converters.kernels import fused_graph
from converters.tflite import reader
from converters.tflm import arena_model, target
from embbert_tf import cli
from embbert_tf.data import files

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_LARGE = 4 << 20


def kernels_of(library: pathlib.Path) -> str:
    """Returns which of `target.KERNELS` a library holds."""
    symbols = subprocess.run(
        ["arm-none-eabi-nm", "-g", str(library)], capture_output=True, text=True, check=False
    ).stdout
    return "cmsis_nn" if " T arm_fully_connected_s8\n" in symbols else "reference"


def zoo(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the zoo's models by name, the fused ones written to a folder."""
    result = {}
    for path in sorted((_ROOT / "zoo").glob("*/model.tflite")):
        name = path.parent.name
        result[f"zoo/{name}"] = path
        fused = folder / f"{name}_fused.tflite"
        fused_graph.fuse_file(path, fused)
        result[f"zoo/{name}, fused"] = fused
    return result


def measure(
    program: arena_program.Program, chip: target.Target, name: str, path: pathlib.Path
) -> dict[str, Any]:
    """Measures one model on one target, and returns a row.

    Raises:
        MeasureError: It does not run there.
    """
    data = path.read_bytes()
    graphs = reader.read_all(data)
    predicted = arena_model.predict(graphs, chip)
    variables = len(arena_model.resource_variables(graphs).names)
    measured = arena_program.smallest(program, path, predicted.bytes, _LARGE, 1, variables)
    return {
        "model": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "target": chip.core,
        "kernels": chip.kernels,
        "measured": measured,
        "predicted": predicted.bytes,
    }


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows of both, the new ones in place of old ones of the same model and target."""

    def key(row: dict[str, Any]) -> tuple[str, str, str]:
        return row["model"], row["target"], row["kernels"]

    rows = {key(row): row for row in [*old, *new]}
    return [rows[name] for name in sorted(rows)]


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table: measured and predicted bytes of each target."""
    chips = sorted({(row["target"], row["kernels"]) for row in rows})
    heads = [f"{core[7:].upper()}, {kernels.replace('_nn', '-NN').replace('cmsis', 'CMSIS')}"
             for core, kernels in chips]  # fmt: skip
    lines = ["| model | " + " | ".join(heads) + " |", "| --- " + "| ---: " * len(heads) + "|"]
    for name in sorted({row["model"] for row in rows}):
        cells = []
        for core, kernels in chips:
            found = [
                row
                for row in rows
                if (row["model"], row["target"], row["kernels"]) == (name, core, kernels)
            ]
            more = found[0]["predicted"] - found[0]["measured"] if found else 0
            text = f"{found[0]['measured']:,}" + (f" +{more}" if more else "") if found else ""
            cells.append(text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def check(
    pairs: list[libraries.Library], extra: list[Any], only: list[str], tflm_dir: str | None
) -> None:
    """Looks at everything that is given before the long work.

    Raises:
        MeasureError: A board, a model or a file is not there.
    """
    for board, _ in pairs:
        arena_program.core_of(board)
    given = [pathlib.Path(name) for _, name in [*pairs, *extra]]
    if tflm_dir:
        given.append(pathlib.Path(tflm_dir) / "tensorflow/lite/micro/micro_interpreter.h")
    for path in given:
        if not path.is_file():
            raise arena_program.MeasureError(f"{path}: there is no such file")
    for program in ("qemu-system-arm", "arm-none-eabi-g++") if pairs else ():
        if shutil.which(program) is None:
            raise arena_program.MeasureError(f"{program} is not on the PATH")
    zoo_models = [f"zoo/{path.parent.name}" for path in (_ROOT / "zoo").glob("*/model.tflite")]
    known = {*zoo_models, *(f"{name}, fused" for name in zoo_models)}
    known |= {*arena_models.MODELS, *(name for name, _ in extra)}
    if unknown := sorted(set(only) - known):
        words = f"there are {', '.join(sorted(known))}"
        raise arena_program.MeasureError(f"--only='{unknown[0]}': {words}")


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    strings = {
        "json": "Keep the rows in this file.",
        "models": "Folder of the models of arena_models; default: a temporary one.",
        "keep": "The ZIP to put them into.",
    }
    for name, meaning in strings.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    libraries.define_flags(values)
    flags.DEFINE_multi_string("file", [], "NAME=another .tflite.", flag_values=values)
    flags.DEFINE_multi_string(
        "only", [], "Name of a model to measure; default: all.", flag_values=values
    )


def main(values: flags.FlagValues) -> None:
    """Measures and prints the table; exit status 1 where one misses or does not run."""
    pairs = libraries.given(values.library, values.tflm_dir)
    extra = [pair.partition("=")[::2] for pair in values.file]
    if not all(second for _, second in extra):
        raise app.UsageError("say --file=NAME=FILE")
    if not pairs and not values.keep:
        raise app.UsageError("say --library=BOARD=FILE to measure, or --keep=FILE.zip")
    check(pairs, extra, values.only, values.tflm_dir)
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        folder = files.make_folder(values.models or work / "models")
        made = arena_models.write(folder, values.only)
        if values.keep:
            arena_models.keep(made, pathlib.Path(values.keep))
        models = zoo(work) | {path.stem: path for path in made}
        models |= {name: pathlib.Path(path) for name, path in extra}
        if values.only:
            models = {name: path for name, path in models.items() if name in values.only}
        if not pairs:
            return
        rows, failures = _measure_all(pairs, models, pathlib.Path(values.tflm_dir), work)
    if values.json:
        old = json.loads(pathlib.Path(values.json).read_text())["rows"] if (
            pathlib.Path(values.json).exists()) else []  # fmt: skip
        rows = merged(old, rows)
        files.write_json(values.json, {"made_by": "converters/benchmarks/arena.py", "rows": rows})
    print(table(rows))
    missed = [row for row in rows if not within(row)]
    for row in missed:
        print(f"arena: the prediction misses its bound: {row}", file=sys.stderr)
    if missed or failures:
        sys.exit(1)


def within(row: dict[str, Any]) -> bool:
    """Whether a prediction suffices and is at most 3 % or 256 bytes more."""
    more = row["predicted"] - row["measured"]
    return 0 <= more <= max(256, 0.03 * row["measured"])


def _measure_all(
    pairs: list[libraries.Library],
    models: dict[str, pathlib.Path],
    tflm_dir: pathlib.Path,
    work: pathlib.Path,
) -> tuple[list[dict[str, Any]], int]:
    """Returns a row for each model on each target, and how many could not be measured."""
    rows, failures = [], 0
    for number, (board, library) in enumerate(pairs):
        program = arena_program.build(board, library, tflm_dir, work / f"program{number}")
        chip = target.make(arena_program.core_of(board), kernels_of(library))
        for name, model in models.items():
            try:
                rows.append(measure(program, chip, name, model))
            except arena_program.MeasureError as error:
                print(f"arena: {name} on {chip.label}: {error}", file=sys.stderr)
                failures += 1
                continue
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows, failures


if __name__ == "__main__":
    cli.run(define_flags, main)
