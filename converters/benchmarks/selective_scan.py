r"""Measures MAMBA's selective scan on TFLM: of TFLM's own operators, and as one of this project.

  python -m converters.benchmarks.selective_scan --tflm_dir=DIR --library=mps2-an386=LIB

One scan of MAMBA 2 MB, 64 channels of 6 states, for each number of tokens in --tokens: operators,
bytes of the file, smallest arena on that board's core with CMSIS-NN (computed), instructions of an
inference (counted in the emulator, with a --library), and the largest error in steps of the int8
result. Then what TFLM says to the operators that a scan in integers would need.
"""

import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
from absl import flags
from tflite_micro.python.tflite_micro import runtime

from converters.benchmarks import arena_program, builtin_scan, libraries
from converters.tflite import graph as graph_lib
from converters.tflite import reader, writer
from converters.tflm import arena_model, child, scan_runner, target
from embbert_tf import cli
from embbert_tf.data import files

_ARENA = 64 << 20  # bytes, on this machine
_ARENA_OF_A_BOARD = 4 << 20
_WAYS: dict[str, Callable[[builtin_scan.Scan], bytes]] = {
    "EMBBERT_SELECTIVE_SCAN": builtin_scan.custom,
    "WHILE": builtin_scan.looped,
    "unrolled": builtin_scan.unrolled,
    "all tokens at once": builtin_scan.doubling,
}
_ASKED = (("EXP", "int8"), ("EXP", "int16"), ("LOG", "int8"), ("LOG", "int16"), ("GATHER", "int16"))


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    libraries.define_flags(values)
    flags.DEFINE_list("tokens", ["28", "64"], "Numbers of tokens.", flag_values=values)


def error_in_steps(scan: builtin_scan.Scan, tflite: bytes) -> float:
    """Runs a graph of a scan on this machine's TFLM.

    Returns:
        The largest difference to the scan in float64, in steps of y.
    """
    run = scan_runner.interpreter(tflite, _ARENA)
    for index, (q, x) in enumerate(zip(scan.quantizations, scan.floats, strict=False)):
        run.set_input(q.quantize(x), index)
    run.invoke()
    q = scan.quantizations[4]
    off = np.array(run.get_output(0), np.float64) - q.zero_point - scan.y / q.scale
    return float(np.abs(off).max())


def refusal(kind: str, dtype: str) -> str:
    """Returns TFLM's own words to an operator of one type; empty where it takes it."""
    x = graph_lib.Tensor("x", (1, 8), dtype, 0.01)
    y = graph_lib.Tensor("y", (1, 8), dtype, 0.01)
    inputs: list[graph_lib.Tensor | None] = [x]
    options = None
    if kind == "GATHER":
        places = graph_lib.Tensor("places", (8,), np.int32, data=np.arange(8, dtype=np.int32))
        inputs, options = [x, places], graph_lib.options(kind, axis=1)
    graph = graph_lib.Graph([x], [y], [graph_lib.Op(kind, inputs, [y], options)])

    def run() -> bytes:
        interpreter = runtime.Interpreter.from_bytes(writer.write(graph), arena_size=1 << 16)
        interpreter.set_input(np.zeros((1, 8), dtype), 0)
        interpreter.invoke()
        return b"runs"

    outcome = child.call(run, seconds=30)
    return "" if outcome.answer else outcome.text.strip().splitlines()[0]


def row(scan: builtin_scan.Scan, way: str, programs: list[arena_program.Program]) -> list[str]:
    """Returns the cells of a row."""
    tflite = _WAYS[way](scan)
    graphs = reader.read_all(tflite)
    arena = arena_model.predict(graphs, target.make("cortex-m4", "cmsis_nn"))
    cells = [str(scan.shape[0]), way, str(sum(len(graph.ops) for graph in graphs))]
    cells += [f"{len(tflite):,}", f"{arena.bytes:,}"]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "scan.tflite")
        files.write_bytes(path, tflite)
        for program in programs:
            cells.append(f"{program.instructions(path, _ARENA_OF_A_BOARD):,}")
    return [*cells, f"{error_in_steps(scan, tflite):.2f}"]


def main(values: flags.FlagValues) -> None:
    """Prints both tables."""
    found = libraries.given(values.library, values.tflm_dir)
    with tempfile.TemporaryDirectory() as folder:
        programs = [
            arena_program.build(
                board, library, pathlib.Path(values.tflm_dir), pathlib.Path(folder, board)
            )
            for board, library in found
        ]
        heads = ["tokens", "scan", "operators", "file", "arena"]
        heads += [f"instructions, {program.machine}" for program in programs] + ["error"]
        print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
        for tokens in map(int, values.tokens):
            scan = builtin_scan.sample(tokens)
            for way in _WAYS:
                print(f"| {' | '.join(row(scan, way, programs))} |", flush=True)
    print("\n| operator | type | TFLM |\n| --- | --- | --- |")
    for kind, dtype in _ASKED:
        print(f"| {kind} | {dtype} | {refusal(kind, dtype) or 'takes it'} |")


if __name__ == "__main__":
    cli.run(define_flags, main)
