"""Prints file size and smallest arena of the plain and the portable conversion, side by side.

Both come from one Keras classifier in one run of this command, and every arena is the smallest with
which the real TFLM interpreter of this machine (64-bit) still gives the model's answers. With --run
it is a trained model; else an untrained one of the reference sizes, as memory does not depend on
what the weights are.

Example:
  python -m converters.benchmarks.memory --lengths=64,256
"""

import pathlib
import tempfile
from typing import Any

import numpy as np
from absl import app, flags

from converters.benchmarks import plain_conversion
from converters.portable import graph
from converters.tflite import writer
from converters.tflm import arena_probe
from embbert_tf import cli
from embbert_tf.data import files
from embbert_tf.model import config, special_tokens
from embbert_tf.quantization import folding, ranges
from embbert_tf.storage import run_folder

_SAMPLES = 8
_SEED = 0

# arXiv 2502.10001: weights and activations of the 8-bit EmbBERT at S=256, counted, not run.
PAPER_BYTES = 781_000
PAPER_LENGTH = 256


def sequences(vocab_size: int, length: int, count: int = _SAMPLES) -> list[list[int]]:
    """Returns random token ids, one sequence of the full length among them."""
    rng = np.random.default_rng(_SEED)
    lengths = [length, *rng.integers(1, length + 1, count - 1)]
    return [
        [special_tokens.CLS, *rng.integers(special_tokens.SEP + 1, vocab_size, int(n) - 1).tolist()]
        for n in lengths
    ]


def portable(folded: folding.FoldedModel, length: int, offline: bool) -> bytes:
    """Returns the portable `.tflite` of a folded model, calibrated on random ids.

    Args:
        folded: The model.
        length: S.
        offline: Whether the file carries our own memory plan.
    """
    meter = ranges.RangeMeter(folded)
    for ids in sequences(folded.config.vocab_size, length):
        meter.run(ids)
    built = graph.PortableGraph(folded, meter.ranges("minmax"), length, offline=offline)
    return writer.write(built.graph)


def measure(model: Any, lengths: list[int], folder: pathlib.Path) -> list[str]:
    """Converts a Keras classifier both ways at several lengths, and measures file and arena.

    Args:
        model: `EmbBertClassifier`.
        lengths: S of the graphs.
        folder: Where the `.tflite` files stay.

    Returns:
        Rows of the table.

    Raises:
        OptionError: A length exceeds the model's.
        ProbeError: TFLM cannot run a graph.
    """
    folded = folding.fold(model)
    files.make_folder(folder)
    rows = []
    for length in lengths:
        ids = sequences(folded.config.vocab_size, length)
        made = {
            "plain TFLiteConverter": plain_conversion.convert(model, ids, length),
            "portable graph, TFLM's greedy planner": portable(folded, length, False),
            "portable graph, its own offline plan": portable(folded, length, True),
        }
        for (what, tflite), name in zip(made.items(), ("plain", "greedy", "offline"), strict=True):
            path = folder / f"{name}{length}.tflite"
            files.write_bytes(path, tflite)
            arena = arena_probe.measure(path)["smallest_bytes"]
            rows.append(_line(length, what, len(tflite), arena, len(tflite) + arena))
    return rows


def _line(length: int, what: str, file: int | str, arena: int | str, total: int) -> str:
    def number(value: int | str) -> str:
        return f"{value:,}" if isinstance(value, int) else value

    return (
        f"| {length:>3} | {what:<38} | {number(file):>9} | {number(arena):>9} | {number(total):>9} "
        f"| {total / PAPER_BYTES:>8.0%} |"
    )


def _untrained(preset: str, labels: int) -> Any:
    from tensorflow import keras

    from embbert_tf.model import classifier

    keras.utils.set_random_seed(_SEED)
    return classifier.EmbBertClassifier(config.PRESETS[preset], num_labels=labels)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_string("run", None, "Run folder; default an untrained model.", flag_values=values)
    flags.DEFINE_enum(
        "config",
        "embbert",
        sorted(config.PRESETS),
        "Sizes of the untrained model.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "labels", 7, "Labels of the untrained model.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_list(
        "lengths", ["64", "256"], "Tokens of the graph's input, S.", flag_values=values
    )
    flags.DEFINE_string("models", None, "Folder to keep the .tflite files in.", flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Prints the table."""
    if not all(text.isdecimal() and int(text) for text in values.lengths):
        raise app.UsageError(f"--lengths={','.join(values.lengths)}: say numbers of tokens")
    lengths = [int(text) for text in values.lengths]
    if values.run:
        model = run_folder.load_run(values.run).model
    else:
        model = _untrained(values.config, values.labels)
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(model, lengths, pathlib.Path(values.models or scratch))
    print("Bytes; the arena is the smallest that runs on TFLM, 64-bit host, int8, batch 1.")
    print(f"| {'S':>3} | {'what':<38} | {'file':>9} | {'arena':>9} | {'together':>9} | of paper |")
    print("| ---:| --- | ---:| ---:| ---:| ---:|")
    for row in rows:
        print(row)
    print(_line(PAPER_LENGTH, "the paper, weights and activations", "-", "-", PAPER_BYTES))


if __name__ == "__main__":
    cli.run(define_flags, main)
