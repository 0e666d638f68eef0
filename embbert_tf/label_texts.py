"""Writes what trained runs say of texts, as a teacher's soft labels for another training.

Example:
  python -m embbert_tf.make_texts --train=train.csv --output=texts.txt.gz
  python -m embbert_tf.label_texts --runs=build/run-0,build/run-1,build/run-2,build/run-3 \
    --linear=train.csv --input=texts.txt.gz,train.csv --output=build/soft.csv.gz
  python -m embbert_tf.train --train=train.csv --soft_labels=build/soft.csv.gz --output=build/taught

The runs' answers are averaged: together they know more than each of them. They may be of different
sizes and architectures; their labels have to be the same. With --linear a linear model of words and
pieces of words is one of them: where single words decide, it knows what they do not. --valid shows
whether it does.
"""

from absl import flags

from embbert_tf import cli


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    lists = {
        "runs": "Folders of finished runs of one task.",
        "input": "Files of texts: .csv as for training, others plain or .gz with a text a line.",
    }
    for name, meaning in lists.items():
        flags.DEFINE_list(name, None, meaning, required=True, flag_values=values)
    flags.DEFINE_string(
        "output",
        None,
        "CSV to write; compressed if it ends in .gz.",
        required=True,
        flag_values=values,
    )
    flags.DEFINE_string(
        "linear",
        None,
        "Training CSV of the runs; a linear model that learns from it is a teacher, too.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "valid",
        None,
        "Labelled CSV; prints what each teacher and their mean make of it.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "linear_share",
        0.5,
        "Of the linear model in the mean; the runs share the rest.",
        flag_values=values,
    )


def main(values: flags.FlagValues) -> None:
    """Writes the soft labels."""
    from embbert_tf.training import teacher  # Seconds to load.

    count = teacher.label_texts(
        values.runs,
        values.input,
        values.output,
        report=lambda line: print(line, flush=True),
        linear=values.linear or None,
        linear_share=values.linear_share,
        valid=values.valid or None,
    )
    print(f"{values.output}: {count:,} texts")


if __name__ == "__main__":
    cli.run(define_flags, main)
