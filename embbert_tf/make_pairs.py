r"""Makes scored pairs of texts out of plain text, to pre-train a model for tasks on pairs.

Example:
  python -m embbert_tf.make_pairs --input=corpus.txt.gz --output=pairs.csv
  python -m embbert_tf.train --task=regression --init=zoo/backbone --train=pairs.csv \
      --output=build/pairs --batch_size=64 --epochs=2
  python -m embbert_tf.train --task=regression --init=build/pairs --train=stsb/train.csv ...

What the pairs and their scores are: `embbert_tf/synthesis/pairs.py`.
"""

from absl import flags

from embbert_tf import cli
from embbert_tf.synthesis import pairs


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_list(
        "input",
        None,
        "Text files, a document a line, plain or .gz.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "output", None, "CSV text,text_pair,label to write.", required=True, flag_values=values
    )
    cli.define_options(pairs.PairOptions, values)


def main(values: flags.FlagValues) -> None:
    """Makes the pairs."""
    options = cli.options_of(pairs.PairOptions, values)
    pairs.make_pairs(values.input, values.output, options)
    print(f"{values.output}: {options.count} pairs")


if __name__ == "__main__":
    cli.run(define_flags, main)
