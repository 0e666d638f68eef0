"""Makes new texts without a label out of training texts, for a teacher to read.

Example:
  python -m embbert_tf.make_texts --train=train.csv --names=corpus.txt.gz --output=texts.txt.gz
  python -m embbert_tf.train --train=train.csv --soft_labels=soft.csv --output=build/small

What the texts are: `embbert_tf/synthesis/texts.py`. In between a teacher in any framework reads
them and writes its probabilities as `soft.csv` (docs/training.md).
"""

from absl import flags

from embbert_tf import cli
from embbert_tf.synthesis import texts


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "train", None, "Training CSV: text,label.", required=True, flag_values=values
    )
    flags.DEFINE_list(
        "names",
        [],
        "Text files, a document a line, plain or .gz, to take more names from.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "File to write, a text a line; compressed if it ends in .gz.",
        required=True,
        flag_values=values,
    )
    cli.define_options(texts.TextOptions, values)


def main(values: flags.FlagValues) -> None:
    """Makes the texts."""
    options = cli.options_of(texts.TextOptions, values)
    texts.make_texts(values.train, values.output, names=values.names, options=options)
    print(f"{values.output}: {options.count} texts")


if __name__ == "__main__":
    cli.run(define_flags, main)
