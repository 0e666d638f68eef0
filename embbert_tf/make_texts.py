"""Makes new texts without a label out of training texts, for a teacher to read.

Example:
  python -m embbert_tf.make_texts --train=train.csv --names=corpus.txt.gz --output=texts.txt.gz
  python -m embbert_tf.train --train=train.csv --soft_labels=soft.csv --output=build/small

What the texts are: `embbert_tf/synthesis/texts.py`. In between a teacher in any framework reads them and
writes its probabilities as `soft.csv` (docs/training.md).
"""

import gzip
import pathlib
import sys

from absl import app, flags

from embbert_tf import errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import files, plain_text
from embbert_tf.synthesis import texts

_TRAIN = flags.DEFINE_string("train", None, "Training CSV: text,label.", required=True)
_NAMES = flags.DEFINE_list(
    "names", [], "Text files, a document a line, plain or .gz, to take more names from."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "File to write, a text a line; compressed if it ends in .gz.", required=True
)
_COUNT = flags.DEFINE_integer("count", 200_000, "Texts to make.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of all choices.", lower_bound=0)


def _make() -> None:
    folder = pathlib.Path(_OUTPUT.value).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder for --output; create it first")
    examples = list(examples_lib.read_examples(_TRAIN.value))
    documents = plain_text.read_documents(_NAMES.value)
    try:
        maker = texts.TextMaker(examples, documents, seed=_SEED.value)
        text = "".join(f"{maker.text()}\n" for _ in range(_COUNT.value)).encode()
    except errors.DataError as error:
        raise errors.DataError(f"{_TRAIN.value}: {error}") from error
    if _OUTPUT.value.endswith(".gz"):
        text = gzip.compress(text, mtime=0)  # Without the hour, so that the same seed is the same.
    files.write_atomic(_OUTPUT.value, lambda temporary: temporary.write_bytes(text))
    print(f"{_OUTPUT.value}: {_COUNT.value} texts")


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        _make()
    except (errors.CorpusError, errors.DataError, OSError) as error:
        sys.exit(f"make_texts: {error}")


if __name__ == "__main__":
    app.run(main)
