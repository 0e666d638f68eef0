"""Labelled text from CSV files.

A file has a header with the columns `text,label` or `text,text_pair,label`, in any order and beside
any others; `embbert_tf.data.csv_files` says what kinds of CSV are read.
"""

import dataclasses
import math
import os
import random
from collections.abc import Iterator, Sequence

from embbert_tf import errors
from embbert_tf.data import csv_files
from embbert_tf.data.files import PathLike

# Beyond float32 there is no score.
_LARGEST_SCORE = 1e37


@dataclasses.dataclass(frozen=True)
class Example:
    """One row of a file.

    Attributes:
        text: The text, or the first of a pair.
        text_pair: The second text of a pair, or None.
        label: Name of a class, or a score, as written; empty where there is none.
        line: Of the file, counted from 1; 0 if it came from none. Equality passes over it.
    """

    text: str
    text_pair: str | None
    label: str
    line: int = dataclasses.field(default=0, compare=False)


def read_examples(path: PathLike) -> Iterator[Example]:
    """Streams the rows of a CSV file; memory does not grow with the file.

    Example:
    ```python
    for example in read_examples("train.csv"):
        print(example.label, example.text)
    ```

    Args:
        path: A `.csv` or `.csv.gz` file.

    Yields:
        One `Example` a row. Blank lines are passed over.

    Raises:
        DataError: with file and line, if the file cannot be opened, a column is missing or there
            twice, a label or text is empty, a row has too few or too many fields, fields are not
            separated by commas, or a byte is not UTF-8.
    """
    path = os.fspath(path)
    header = None
    for start, row in csv_files.read_rows(path):
        if header is None:
            header = row
            for name in ("text", "label"):
                if name not in header:
                    raise errors.DataError(
                        f"{path}:{start}: no column {name!r} in the header "
                        f"{','.join(header)[:80]!r}; expected text,label or text,text_pair,label"
                    )
            text_at, label_at = header.index("text"), header.index("label")
            pair_at = header.index("text_pair") if "text_pair" in header else None
            continue
        text, label = row[text_at].strip(), row[label_at].strip()
        pair = None if pair_at is None else row[pair_at].strip()
        if not label:
            raise errors.DataError(f"{path}:{start}: empty label; fill it in or delete the row")
        if not text or pair == "":
            column = "text" if not text else "text_pair"
            raise errors.DataError(f"{path}:{start}: empty {column}; fill it in or delete the row")
        yield Example(text, pair, label, start)
    if header is None:
        raise errors.DataError(f"{path}:1: the file is empty; expected the header text,label")


def read_all(path: PathLike, pair: bool | None = None) -> list[Example]:
    """Reads a CSV file whole.

    Args:
        path: As for `read_examples`.
        pair: Whether it must have pairs of texts; None if either is right.

    Raises:
        DataError: As of `read_examples`; or there are no rows, or they are pairs where single
            texts are needed or the other way round.
    """
    examples = list(read_examples(path))
    if not examples:
        raise errors.DataError(f"{path}:1: no rows after the header")
    if pair is not None and pair != (examples[0].text_pair is not None):
        has, needs = ("pairs of texts", "single texts")[:: -1 if pair else 1]
        mend = "add the column text_pair" if pair else "delete or rename the column text_pair"
        raise errors.DataError(
            f"{path}:1: the rows are {has}, the model is trained on {needs}; {mend}"
        )
    return examples


def score(example: Example, path: PathLike) -> float:
    """Returns the label of a regression example as a number.

    Raises:
        DataError: It is not a finite number that float32 can hold.
    """
    try:
        value = float(example.label)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST_SCORE:
        raise errors.DataError(
            f"{path}{f':{example.line}' if example.line else ''}: label {example.label!r} is not "
            "a number, as regression needs"
        )
    return value


VALID_CSV = "valid.csv"


def split(
    examples: Sequence[Example], share: float, seed: int, scores: bool = False
) -> tuple[list[Example], list[Example]]:
    """Holds out a stratified share of the examples; at least one of each class stays.

    Args:
        examples: Labelled rows.
        share: Of each class to hold out.
        seed: Of the choice.
        scores: The labels are scores; one of every 1 / `share` neighbours by score is held out.

    Returns:
        (kept, held out), both in file order.
    """
    rng = random.Random(seed)
    if scores:
        order = sorted(range(len(examples)), key=lambda i: (float(examples[i].label), i))
        run = round(1 / share)
        held = {rng.choice(order[at : at + run]) for at in range(0, len(order) - run + 1, run)}
    else:
        held = _held_of_classes(examples, share, rng)
    kept = [e for i, e in enumerate(examples) if i not in held]
    return kept, [examples[i] for i in sorted(held)]


def _held_of_classes(examples: Sequence[Example], share: float, rng: random.Random) -> set[int]:
    by_class: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        by_class.setdefault(example.label, []).append(index)
    held: set[int] = set()
    spare = 0.0
    for label in sorted(by_class):
        members = by_class[label]
        rng.shuffle(members)
        # Small classes share what is left of each other's tenths.
        wanted = share * len(members) + spare
        count = min(int(wanted), len(members) - 1)
        spare = wanted - count
        held.update(members[:count])
    return held


def write_csv(path: PathLike, examples: Sequence[Example]) -> None:
    """Writes examples as a CSV file that `read_examples` reads, atomically.

    Args:
        path: The file.
        examples: One at least; either all of them are pairs or none is.

    Raises:
        FileError: It cannot be written.
    """
    if examples[0].text_pair is not None:
        header = ["text", "text_pair", "label"]
        csv_files.write_rows(path, header, [(e.text, e.text_pair, e.label) for e in examples])
    else:
        csv_files.write_rows(path, ["text", "label"], [(e.text, e.label) for e in examples])
