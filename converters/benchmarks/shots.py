"""Prints what an encoder learns from few sentences a label, in the device's integers.

    python -m converters.benchmarks.shots --model=zoo/encoder --data=snips,nlu

`count` sentences of each label are drawn from `train.csv` and taught, without a training step, and
the rows of `valid.csv` are asked: medians over the draws. Other talk is asked by leaving a label
out, mean of all labels. With --target=mps2-an386 the emulated board learns the sentences at its
prompt and answers the rows; without, TFLM on this machine.
"""

import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np
from absl import flags

import converters
from converters.evaluation import board, labelled_rows, shots
from converters.firmware import sources
from converters.kernels import labels as labels_lib
from embbert_tf import cli, errors
from embbert_tf.data import examples as examples_lib


def _results(
    model: converters.Model,
    device: board.Board | None,
    teaching: list[examples_lib.Example],
    asked: list[examples_lib.Example],
    chosen: list[list[int]],
) -> Iterator[shots.Result]:
    """Measures each choice of sentences."""
    threshold = round(model.settings["confidence_threshold"] * labels_lib.CONFIDENCE_ONE)

    def texts(rows: list[examples_lib.Example]) -> shots.Texts:
        return shots.Texts(model.rows([e.text for e in rows]), np.array([e.label for e in rows]))

    valid = texts(asked) if device is None else None
    for places in chosen:
        sentences = [teaching[place] for place in places]
        names = list(dict.fromkeys(e.label for e in sentences))
        if valid is not None:
            table = shots.taught(texts(sentences).rows, [e.label for e in sentences])
            yield shots.measure(table, names, valid, threshold)
            continue
        assert device is not None
        with tempfile.TemporaryDirectory() as folder:
            zero = int(model.settings["output"]["zero_point"])
            table, rows = shots.on_board(device, zero, sentences, asked, pathlib.Path(folder))
        yield shots.measure(table, names, rows, threshold)


def lines(
    model: converters.Model,
    device: board.Board | None,
    folder: pathlib.Path,
    counts: list[int],
    draws: int,
) -> Iterator[str]:
    """Returns the rows of a Markdown table.

    Args:
        model: A converted encoder.
        device: A board with it; None for TFLM on this machine.
        folder: With `train.csv` to teach from and `valid.csv` to ask.
        counts: Sentences a label.
        draws: How often they are drawn.

    Raises:
        DataError: A file cannot be used.
        BoardError: The firmware cannot be built or run.
    """
    teaching = labelled_rows.read_sample(folder / "train.csv")
    known = {e.label for e in teaching}
    asked = [e for e in labelled_rows.read_sample(folder / "valid.csv") if e.label in known]
    for count in counts:
        chosen = [shots.draw([e.label for e in teaching], count, seed) for seed in range(draws)]
        results = list(_results(model, device, teaching, asked, chosen))
        accuracy = [100 * result.accuracy for result in results]
        others = (
            100 * float(np.median([getattr(result, name) for result in results]))
            for name in ("rejected", "sure", "rejected_by_model")
        )
        yield (
            f"| {folder.name}, {len({e.label for e in asked})} | {count} "
            f"| {np.median(accuracy):.1f} [{min(accuracy):.1f}..{max(accuracy):.1f}] | "
            + " | ".join(f"{value:.1f}" for value in others)
            + " |"
        )


HEADER = """\
| task, labels | sentences a label | accuracy | other talk rejected where 90 % are kept | \
kept at the model's threshold | rejected there |
| --- | ---: | ---: | ---: | ---: | ---: |"""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "model", "zoo/encoder", "Folder of a converted encoder.", flag_values=values
    )
    flags.DEFINE_list(
        "data", None, "Folders with train.csv and valid.csv.", required=True, flag_values=values
    )
    flags.DEFINE_list("counts", ["5", "10", "20"], "Sentences a label.", flag_values=values)
    flags.DEFINE_string(
        "target", None, "Of tflm_app/Makefile; without it TFLM on this machine.", flag_values=values
    )
    flags.DEFINE_integer("draws", 3, "How often they are drawn.", lower_bound=1, flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Measures and prints."""
    try:
        counts = [int(count) for count in values.counts]
    except ValueError as error:
        raise errors.OptionError(f"--counts={','.join(values.counts)}: whole numbers") from error
    if min(counts, default=0) < 1:
        raise errors.OptionError(f"--counts={','.join(values.counts)}: numbers of 1 and more")
    model = converters.load_model(values.model)
    if model.settings.get("task") != "encoder":
        raise errors.OptionError(
            f"{values.model}: no encoder, which alone learns labels; give zoo/encoder or one of "
            "embbert_tf.train_encoder"
        )
    device = board.Board(values.target, sources.model(values.model)) if values.target else None
    if device is not None:
        device.text_bytes()  # the target and its tools are there
    print(HEADER, flush=True)
    for folder in values.data:
        for line in lines(model, device, pathlib.Path(folder), counts, values.draws):
            print(line, flush=True)


if __name__ == "__main__":
    cli.run(define_flags, main)
