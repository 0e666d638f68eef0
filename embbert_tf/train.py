"""Trains an EmbBERT classifier (or regression) on a CSV file.

Example:
  python -m embbert_tf.train --train=train.csv --test=test.csv --output=build/demo/run

Everything goes to the run folder `--output`: `config.json`, `tokenizer.json`, `labels.txt`,
`valid.csv` (what was held out), `fp32.keras`, `metrics.json` and, until it has finished, a
checkpoint. A run that was killed goes on where it was when the same command is given again; one
that has finished is left as it is. Next: `python -m embbert_tf.qat --run=RUN`.
"""

from absl import flags

from embbert_tf import cli
from embbert_tf.training import trainer
from embbert_tf.training.options import TrainOptions


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string(
        "train",
        None,
        "Training CSV: text,label or text,text_pair,label.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "valid",
        None,
        "Validation CSV; without it a stratified tenth of --train is held out.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "test", None, "Test CSV; only measured, never trained or chosen on.", flag_values=values
    )
    flags.DEFINE_string("output", None, "Run folder.", required=True, flag_values=values)
    cli.define_options(TrainOptions, values)


def main(values: flags.FlagValues) -> None:
    """Trains as the flags say."""
    trainer.train(
        values.train,
        output=values.output,
        valid=values.valid,
        test=values.test,
        options=cli.options_of(TrainOptions, values),
    )


if __name__ == "__main__":
    cli.run(define_flags, main)
