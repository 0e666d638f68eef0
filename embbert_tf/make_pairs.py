"""Makes scored pairs of texts out of plain text, to pre-train a model for tasks on pairs.

Example:
  python -m embbert_tf.make_pairs --input=corpus.txt.gz --output=pairs.csv
  python -m embbert_tf.train --task=regression --init=zoo/backbone --train=pairs.csv \
      --output=build/pairs --batch_size=64 --epochs=2
  python -m embbert_tf.train --task=regression --init=build/pairs --train=stsb/train.csv ...

What the pairs and their scores are: `embbert_tf/synthesis/pairs.py`.
"""

import pathlib
import sys

from absl import app, flags

from embbert_tf import errors
from embbert_tf.data import examples, plain_text
from embbert_tf.synthesis import pairs as pairs_lib

_INPUT = flags.DEFINE_list(
    "input", None, "Text files, a document a line, plain or .gz.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "CSV text,text_pair,label to write.", required=True)
_COUNT = flags.DEFINE_integer("count", 240_000, "Pairs to make.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of all choices.", lower_bound=0)


def _make() -> None:
    folder = pathlib.Path(_OUTPUT.value).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder for --output; create it first")
    maker = pairs_lib.PairMaker(
        plain_text.read_documents(_INPUT.value), most=_COUNT.value, seed=_SEED.value
    )

    pairs = (maker.pair() for _ in range(_COUNT.value))
    examples.write_csv(
        _OUTPUT.value, [examples.Example(one, other, f"{score:.2f}") for one, other, score in pairs]
    )
    print(f"{_OUTPUT.value}: {_COUNT.value} pairs")


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        _make()
    except (errors.CorpusError, OSError) as error:
        sys.exit(f"make_pairs: {error}")


if __name__ == "__main__":
    app.run(main)
