"""Labelled text from CSV files, read one row at a time.

A file has a header with the columns `text,label` or `text,text_pair,label`, in any order and beside
any others, in UTF-8 with or without a byte order mark, plain or gzip-compressed (`.gz`).
"""

import csv
import dataclasses
import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator


class DataError(ValueError):
    """Data that cannot be used; the message says where and how to mend it."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One row: a text, the second text of a pair or None, and the label as written."""

    text: str
    text_pair: str | None
    label: str


class _Lines:
    """Decodes a binary stream line by line, and remembers the number of the line."""

    def __init__(self, stream, path):
        self._stream = stream
        self._path = path
        self.number = 0

    def __iter__(self):
        return self

    def __next__(self) -> str:
        try:
            raw = self._stream.readline()
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{self._path}:{self.number + 1}: cannot be read ({error}); is the file complete?"
            ) from error
        if not raw:
            raise StopIteration
        self.number += 1
        if self.number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._path}:{self.number}: byte 0x{raw[error.start]:02x} at position "
                f"{error.start + 1} of the line is not UTF-8; save the file as UTF-8"
            ) from error


def read_examples(path) -> Iterator[Example]:
    """Streams the rows of a CSV file; memory does not grow with the file.

    Example:
    ```python
    for example in read_examples("train.csv.gz"):
        print(example.label, example.text)
    ```

    Args:
        path: A `.csv` or `.csv.gz` file.

    Yields:
        One `Example` a row. Blank lines are passed over.

    Raises:
        DataError: with file and line, if the file cannot be opened, a column is missing, a label or
            text is empty, a row has too few or too many fields, or a byte is not UTF-8.
    """
    path = os.fspath(path)
    header = None
    for start, row in read_rows(path):
        if header is None:
            header = row
            for name in ("text", "label"):
                if name not in header:
                    raise DataError(
                        f"{path}:{start}: no column {name!r} in the header "
                        f"{','.join(header)[:80]!r}; expected text,label or text,text_pair,label"
                    )
            text_at, label_at = header.index("text"), header.index("label")
            pair_at = header.index("text_pair") if "text_pair" in header else None
            continue
        text, label = row[text_at].strip(), row[label_at].strip()
        pair = None if pair_at is None else row[pair_at].strip()
        if not label:
            raise DataError(f"{path}:{start}: empty label; fill it in or delete the row")
        if not text or pair == "":
            column = "text" if not text else "text_pair"
            raise DataError(f"{path}:{start}: empty {column}; fill it in or delete the row")
        yield Example(text, pair, label)
    if header is None:
        raise DataError(f"{path}:1: the file is empty; expected the header text,label")


def read_rows(path) -> Iterator[tuple[int, list[str]]]:
    """Streams the rows of a CSV file, whatever its columns.

    Args:
        path: A `.csv` or `.csv.gz` file.

    Yields:
        (line, fields); first the header, its names stripped. Blank lines are passed over.

    Raises:
        DataError: with file and line, if the file cannot be opened or decoded, or a row has other
            fields than the header.
    """
    path = os.fspath(path)
    try:
        stream = gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror or error})") from error
    with stream:
        buffered = stream if path.endswith(".gz") else io.BufferedReader(stream, 1 << 16)
        yield from _parse(_Lines(buffered, path), path)


def _parse(lines: _Lines, path: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, strict=True)
    header = None
    while True:
        start = lines.number + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}:{start}: not valid CSV ({error})") from error
        if not row:
            continue
        if header is None:
            header = row = [name.strip() for name in row]
        elif len(row) != len(header):
            raise DataError(
                f"{path}:{start}: {len(row)} fields where the header has {len(header)}; "
                "put a text that contains commas in double quotes"
            )
        yield start, row


def label_names(examples: Iterable[Example], path) -> list[str]:
    """Returns the distinct labels, sorted: numbers by value, else by code point.

    Args:
        examples: Training rows.
        path: Where they came from, for the message.

    Raises:
        DataError: if there are no rows or fewer than two classes.
    """
    names = {example.label for example in examples}
    if not names:
        raise DataError(f"{path}:1: no rows after the header")
    if len(names) == 1:
        raise DataError(
            f"{path}: every row has the label {names.pop()!r}; a classifier needs two or more"
        )
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def score(example: Example, path) -> float:
    """Returns the label of a regression example as a number.

    Raises:
        DataError: if it is not a finite number.
    """
    try:
        value = float(example.label)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise DataError(f"{path}: label {example.label!r} is not a number, as regression needs")
    return value
