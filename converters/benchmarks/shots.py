"""Prints what an encoder learns from few sentences a label, in the device's integers.

    python -m converters.benchmarks.shots --model=zoo/encoder --data=snips,nlu

`count` sentences of each label are drawn from `train.csv` and taught, without a training step, and
the rows of `valid.csv` are asked: medians over the draws. Other talk is asked by leaving a label
out, mean of all labels.
"""

import pathlib

import numpy as np
from absl import flags

import converters
from converters.evaluation import labelled_rows, shots
from converters.kernels import labels as labels_lib
from embbert_tf import cli, errors


def table(model: converters.Model, folder: pathlib.Path, counts: list[int], draws: int) -> str:
    """Returns the rows of a Markdown table.

    Args:
        model: A converted encoder.
        folder: With `train.csv` to teach from and `valid.csv` to ask.
        counts: Sentences a label.
        draws: How often they are drawn.

    Raises:
        DataError: A file cannot be used.
    """
    teaching = labelled_rows.read_sample(folder / "train.csv")
    asked = labelled_rows.read_sample(folder / "valid.csv")

    def texts(rows: list) -> shots.Texts:
        return shots.Texts(model.rows([e.text for e in rows]), np.array([e.label for e in rows]))

    valid, lines = texts(asked), []
    threshold = round(model.settings["confidence_threshold"] * labels_lib.CONFIDENCE_ONE)
    for count in counts:
        results = []
        for seed in range(draws):
            chosen = shots.draw([e.label for e in teaching], count, seed)
            results.append(shots.measure(texts([teaching[i] for i in chosen]), valid, threshold))
        accuracy = [100 * result.accuracy for result in results]
        others = (
            100 * float(np.median([getattr(result, name) for result in results]))
            for name in ("rejected", "sure", "rejected_by_model")
        )
        lines.append(
            f"| {folder.name}, {len(set(valid.labels))} | {count} | {np.median(accuracy):.1f} "
            f"[{min(accuracy):.1f}..{max(accuracy):.1f}] | "
            + " | ".join(f"{value:.1f}" for value in others)
            + " |"
        )
    return "\n".join(lines)


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
    print(HEADER, flush=True)
    for folder in values.data:
        print(table(model, pathlib.Path(folder), counts, values.draws), flush=True)


if __name__ == "__main__":
    cli.run(define_flags, main)
