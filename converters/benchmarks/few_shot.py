"""Prints what a user with few texts a class gets: trained, quantized and converted by the defaults.

    python -m converters.benchmarks.few_shot --data=DATA/snips --output=build/few_shot

`count` texts of each class are drawn from `train.csv`, with as many seeds as there are draws. Each
draw is trained from zoo/backbone, fine-tuned with quantization and converted with the defaults of
the commands for it, and the rows of `valid.csv` are asked, which had no part in that. It goes on
where it was stopped; the seconds are those that were left to do.
"""

import pathlib
import statistics
import time

from absl import flags

import converters
from converters.evaluation import shots
from converters.zoo import layout
from embbert_tf import cli, errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import files
from embbert_tf.training import quantized_trainer, trainer
from embbert_tf.training.options import TrainOptions

HEADER = "| draw | fp32 | QAT | int8 on TFLM | seconds |\n| --- | ---: | ---: | ---: | ---: |"


def measure(data: pathlib.Path, init: str, count: int, folder: pathlib.Path, draw: int) -> list:
    """Trains, converts and measures one draw.

    Args:
        data: Folder with `train.csv` and `valid.csv`.
        init: Backbone to start from.
        count: Texts a class.
        folder: For the run and the model.
        draw: Its seed.

    Returns:
        Accuracy in fp32, after quantization-aware training and in int8 on TFLM, in per cent, and
        the seconds until the model was converted.

    Raises:
        EmbBertError: As its steps do.
    """
    start = time.monotonic()
    rows = examples_lib.read_all(data / "train.csv", pair=False)
    chosen = shots.draw([row.label for row in rows], count, draw)
    train, asked = files.make_folder(folder) / "train.csv", data / "valid.csv"
    examples_lib.write_csv(train, [rows[i] for i in chosen])
    run = trainer.train(train, output=folder / "run", test=asked, options=TrainOptions(init=init))
    run = quantized_trainer.train_quantized(run, train, test=asked)
    model = converters.convert(run, calibration=train)
    model.save(folder / "model")
    seconds = time.monotonic() - start
    stages = [run.metrics[stage]["test"]["accuracy"] for stage in ("fp32", "qat")]
    shares = [*stages, model.evaluate(asked)["accuracy"]]
    return [*(100 * share for share in shares), seconds]


def table(results: list[list]) -> list[str]:
    """Returns the lines of a Markdown table: a draw a line, then the mean."""
    lines = [_line(str(draw), result) for draw, result in enumerate(results)]
    mean = [statistics.mean(column) for column in zip(*results, strict=True)]
    return [HEADER, *lines, _line("mean", mean)]


def _line(name: str, result: list) -> str:
    *shares, seconds = result
    return f"| {name} | " + " | ".join(f"{share:.2f}" for share in shares) + f" | {seconds:.0f} |"


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    strings = {
        "data": (None, "Folder with train.csv to draw from and valid.csv to ask."),
        "init": (str(layout.ROOT / layout.BACKBONE), "Backbone to start from."),
        "output": ("build/few_shot", "Folder for the runs and models."),
    }
    for name, (default, meaning) in strings.items():
        flags.DEFINE_string(name, default, meaning, flag_values=values)
    flags.DEFINE_integer("count", 20, "Texts a class.", lower_bound=2, flag_values=values)
    flags.DEFINE_integer("draws", 3, "How often they are drawn.", lower_bound=1, flag_values=values)
    flags.mark_flag_as_required("data", flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Measures and prints."""
    data, output = pathlib.Path(values.data), pathlib.Path(values.output)
    for name in ("train.csv", "valid.csv"):
        if not (data / name).is_file():
            raise errors.FileError(f"{data / name}: no such file; --data is a folder with both")
    results = [
        measure(data, values.init, values.count, output / f"{values.count}-{draw}", draw)
        for draw in range(values.draws)
    ]
    print("\n".join(table(results)))


if __name__ == "__main__":
    cli.run(define_flags, main)
