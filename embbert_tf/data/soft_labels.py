"""What a teacher says of texts, and texts without a label."""

import random
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from embbert_tf import errors
from embbert_tf.data import csv_files, plain_text
from embbert_tf.data.examples import Example
from embbert_tf.data.files import PathLike

Key = tuple[str, str | None]  # A text and the second one of a pair.

_SCORE = "score"  # Column of soft labels for a regression.
# Of the sum of written probabilities: two decimals of a few classes. Of many classes the rounding
# errors add up as the square root of their number.
_SUM_TOLERANCE = 0.02
_FEW = 8


def read_unlabelled(
    paths: Iterable[PathLike], count: int, seed: int, known: Collection[Key]
) -> list[Example]:
    """Returns texts as examples with an empty label.

    Args:
        paths: Plain or `.gz` files, a text a line.
        count: How many to draw at random; 0 takes all.
        seed: Of the draw.
        known: (text, text_pair) that must not come back: training texts, and those that measure.

    Raises:
        CorpusError: A file cannot be read.
        DataError: There is no other text in them.
    """
    rng = random.Random(seed)
    chosen: list[str] = []
    seen = 0
    for text in plain_text.read_documents(paths):
        if (text, None) in known:
            continue
        seen += 1
        if not count or len(chosen) < count:
            chosen.append(text)
        else:  # Each text stays with the same probability, however many there are.
            place = rng.randrange(seen)
            if place < count:
                chosen[place] = text
    if not chosen:
        raise errors.DataError(f"{', '.join(map(str, paths))}: no text beside those of the data")
    return [Example(text, None, "") for text in chosen]


def read_soft_labels(path: PathLike, labels: Sequence[str], pair: bool) -> dict[Key, np.ndarray]:
    """Reads a CSV of probabilities that any teacher can have written.

    Example (labels `neg` and `pos`):
    ```text
    text,neg,pos
    what a film,0.02,0.98
    ```

    Args:
        path: Columns `text`, `text_pair` for pairs, and one for each label with its probability;
            for a regression one named `score`. Plain or `.gz`.
        labels: Class names; empty for a regression.
        pair: Whether the texts are pairs.

    Returns:
        (text, text_pair or None) to float32 (L,) or (1,).

    Raises:
        DataError: with file and line, if a column is missing or a value is no probability.
    """
    names = labels or [_SCORE]
    tolerance = _SUM_TOLERANCE * max(1.0, (len(names) / _FEW) ** 0.5)
    result = {}
    header = None
    for line, row in csv_files.read_rows(path):
        if header is None:
            header = row
            columns = ["text", *(["text_pair"] if pair else []), *names]
            for name in columns:
                if name not in header:
                    raise errors.DataError(
                        f"{path}:{line}: no column {name!r} in the header; soft labels of this "
                        f"task have the columns {','.join(columns)}"
                    )
            if not pair and "text_pair" in header:
                raise errors.DataError(
                    f"{path}:{line}: has pairs of texts, the training data single texts"
                )
            text_at, *places = [header.index(name) for name in columns]
            continue
        second = row[places[0]].strip() if pair else None
        values = [row[place] for place in places[pair:]]
        try:
            numbers = np.array([float(value) for value in values])
        except ValueError:
            numbers = np.array([np.nan])
        if not np.isfinite(numbers).all():
            raise errors.DataError(f"{path}:{line}: {','.join(values)!r} are not all numbers")
        if labels:
            if numbers.min() < 0 or abs(numbers.sum() - 1) > tolerance:
                raise errors.DataError(
                    f"{path}:{line}: {','.join(values)!r} are no probabilities (none below 0, sum "
                    "1); apply softmax to logits first"
                )
            numbers = numbers / numbers.sum()
        result[row[text_at].strip(), second] = numbers.astype(np.float32)
    if not result:
        raise errors.DataError(f"{path}: no rows after the header")
    return result
