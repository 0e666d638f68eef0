"""Fine-tunes a trained run with the device's int8 in its forward pass.

Example:
  python -m embbert_tf.qat --run=build/demo/run --train=train.csv

Writes `qat.keras` and `ranges.json` into the run folder and adds the QAT model's metrics to
`metrics.json`. Resumes when it was killed; leaves a finished run as it is.
"""

from absl import flags

from embbert_tf import cli
from embbert_tf.training import quantized_trainer
from embbert_tf.training.options import QatOptions


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string(
        "run",
        None,
        "Run folder of `python -m embbert_tf.train`.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "train", None, "The training CSV of that run.", required=True, flag_values=values
    )
    flags.DEFINE_string(
        "valid",
        None,
        "Validation CSV of a run that has none of its own, as an imported one.",
        flag_values=values,
    )
    flags.DEFINE_string("test", None, "Test CSV; only measured.", flag_values=values)
    cli.define_options(QatOptions, values)


def main(values: flags.FlagValues) -> None:
    """Fine-tunes as the flags say."""
    quantized_trainer.train_quantized(
        values.run,
        values.train,
        cli.options_of(QatOptions, values),
        valid=values.valid,
        test=values.test,
    )


if __name__ == "__main__":
    cli.run(define_flags, main)
