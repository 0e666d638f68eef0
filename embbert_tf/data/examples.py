"""Labelled text from CSV files, read one row at a time.

A file has a header with the columns `text,label` or `text,text_pair,label`, in any order and beside
any others, in UTF-8 with or without a byte order mark, plain or gzip-compressed (`.gz`).
"""

import collections
import csv
import dataclasses
import gzip
import io
import os
import pathlib
import random
import shlex
import unicodedata
import zlib
from collections.abc import Iterable, Iterator

from embbert_tf import errors
from embbert_tf.data import files

# Python's own limit, 131,072 characters, is less than a long document has. The limit is one for the
# whole process, so it is set once, and never lowered.
_LONGEST_FIELD = 1 << 27
csv.field_size_limit(max(_LONGEST_FIELD, csv.field_size_limit()))

# Byte order marks of UTF-16; that of UTF-32 begins alike.
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SEPARATORS = {"\t": "a tab", ";": "';'", "|": "'|'"}
_MOST_LOOK_ALIKES = 10  # groups of labels that are named one by one


@dataclasses.dataclass(frozen=True)
class Example:
    """One row: a text, the second text of a pair or None, and the label as written."""

    text: str
    text_pair: str | None
    label: str


class _Lines:
    """Decodes a binary stream line by line, and remembers the first line and the number."""

    def __init__(self, stream, path):
        self._stream = stream
        self._path = path
        self.number = 0
        self.first = ""

    def __iter__(self):
        return self

    def __next__(self) -> str:
        try:
            raw = self._stream.readline()
        except (OSError, EOFError, zlib.error) as error:
            raise errors.DataError(
                f"{self._path}:{self.number + 1}: cannot be read ({error}); is the file complete?"
            ) from error
        if not raw:
            raise StopIteration
        self.number += 1
        if self.number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        if self.number == 1 and raw.startswith(_UTF16_MARKS):
            raise errors.DataError(
                f"{self._path}:1: the file is UTF-16, not UTF-8; save it as UTF-8"
            )
        if b"\0" in raw:
            raise errors.DataError(
                f"{self._path}:{self.number}: a NUL byte at position {raw.index(0) + 1} of the "
                "line: the file is no text, or UTF-16 without a byte order mark; save it as UTF-8"
            )
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise errors.DataError(
                f"{self._path}:{self.number}: byte 0x{raw[error.start]:02x} at position "
                f"{error.start + 1} of the line is not UTF-8; save the file as UTF-8"
            ) from error
        if self.number == 1:
            self.first = line
        return line


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
        DataError: with file and line, if the file cannot be opened, a column is missing or there
            twice, a label or text is empty, a row has too few or too many fields, fields are not
            separated by commas, or a byte is not UTF-8.
    """
    path = os.fspath(path)
    header = None
    for start, row in read_rows(path):
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
        yield Example(text, pair, label)
    if header is None:
        raise errors.DataError(f"{path}:1: the file is empty; expected the header text,label")


def read_rows(path) -> Iterator[tuple[int, list[str]]]:
    """Streams the rows of a CSV file, whatever its columns.

    Args:
        path: A `.csv` or `.csv.gz` file.

    Yields:
        (line, fields); first the header, its names stripped. Blank lines are passed over.

    Raises:
        DataError: with file and line, if the file cannot be opened or decoded, fields seem to be
            separated by something else than commas, two columns have one name, or a row has
            other fields than the header.
    """
    path = os.fspath(path)
    try:
        stream = gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise errors.DataError(f"{path}: cannot be opened ({error.strerror or error})") from error
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
            if header is None:
                _check_separator(lines.first, path)
            raise errors.DataError(f"{path}:{start}: not valid CSV ({error})") from error
        if not row:
            continue
        if header is None:
            if len(row) == 1:
                _check_separator(row[0], path)
            header = row = [name.strip() for name in row]
            for name, count in collections.Counter(filter(None, header)).items():
                if count > 1:
                    raise errors.DataError(
                        f"{path}:{start}: {count} columns have the name {name!r}; rename or delete "
                        "all but one"
                    )
        elif len(row) != len(header):
            raise errors.DataError(
                f"{path}:{start}: {len(row)} fields where the header has {len(header)}; "
                "put a text that contains commas in double quotes"
            )
        yield start, row


def _check_separator(header: str, path: str):
    """Raises DataError if a header without commas, or with stray quotes, has other separators."""
    for separator, shown in _SEPARATORS.items():
        names = [name.strip(" \"'\r\n") for name in header.split(separator)]
        if len(names) > 1 and ("text" in names or "," not in header):
            unpack = "gzip -dc" if path.endswith(".gz") else "cat"
            raise errors.DataError(
                f"{path}:1: the separator seems to be {shown}, not a comma; save the file with "
                f"commas, or convert it: {unpack} {shlex.quote(path)} | python3 -c "
                '"import csv, sys; csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, '
                f'delimiter={separator!r}))" > commas.csv'
            )


def look_alike_labels(labels: Iterable[str]) -> list[str]:
    """Names labels that are told apart and were probably meant to be one.

    Labels look alike that differ only in case, in spaces, in invisible characters, in their Unicode
    form (`é` in one code point or two, full width), or in how they write a number (`1`, `1.0`).

    Example:
    ```python
    look_alike_labels(["home", "HOME", "music"])
    # ["the labels 'HOME' (1 row) and 'home' (1 row) differ only in case, and are trained as ..."]
    ```

    Args:
        labels: The label of every row.

    Returns:
        A sentence for each group of such labels; none if every label is distinct.
    """
    counts = collections.Counter(labels)
    groups = collections.defaultdict(list)
    for name in sorted(counts):
        groups[_essence(name)].append(name)
    groups = [names for names in groups.values() if len(names) > 1]
    sentences = []
    for names in groups[:_MOST_LOOK_ALIKES]:
        kind = _difference(names)
        spelling = ascii if kind == _UNICODE else repr
        *first, last = [
            f"{spelling(name)} ({counts[name]} row{'s' if counts[name] > 1 else ''})"
            for name in names
        ]
        sentences.append(
            f"the labels {', '.join(first)} and {last} differ only in {kind}, and are trained as "
            f"{len(names)} classes; write them alike if they mean the same"
        )
    if len(groups) > _MOST_LOOK_ALIKES:
        sentences.append(f"{len(groups) - _MOST_LOOK_ALIKES} more groups of labels look alike")
    return sentences


def _visible(name: str) -> str:
    return "".join(c for c in name if unicodedata.category(c) not in ("Cf", "Cc"))


def _number(name: str) -> str:
    try:
        return repr(float(name))
    except ValueError:
        return name


_UNICODE = "invisible characters or Unicode form"
# What labels may differ in, and what is left without it.
_DIFFERENCES = {
    "case": str.casefold,
    "spaces": lambda name: "".join(name.split()),
    _UNICODE: lambda name: _visible(unicodedata.normalize("NFKC", name)),
    "how they write a number": _number,
}


def _essence(name: str) -> str:
    """Returns what is left of a label without all that look-alikes differ in."""
    for kind in (_UNICODE, "case", "spaces"):
        name = _DIFFERENCES[kind](name)
    # Case folding can undo the normal form; a number is compared by value, last.
    return _number(unicodedata.normalize("NFKC", name))


def _difference(names: list[str]) -> str:
    """Returns in what alone the labels differ."""
    for kind, reduce in _DIFFERENCES.items():
        if len({reduce(name) for name in names}) == 1:
            return kind
    return "case, spaces, Unicode form or how they write a number"


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
        raise errors.DataError(f"{path}:1: no rows after the header")
    if len(names) == 1:
        raise errors.DataError(
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
        raise errors.DataError(
            f"{path}: label {example.label!r} is not a number, as regression needs"
        )
    return value


VALID_CSV = "valid.csv"


def split(examples: list, share: float, seed: int) -> tuple[list, list]:
    """Holds out a stratified share of the examples; at least one of each class stays.

    Args:
        examples: `data.Example`s.
        share: Of each class to hold out.
        seed: Of the choice.

    Returns:
        (kept, held out), both in file order.
    """
    rng = random.Random(seed)
    by_class: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        by_class.setdefault(example.label, []).append(index)
    held: set[int] = set()
    spare = 0.0
    for label in sorted(by_class):
        members = by_class[label]
        rng.shuffle(members)
        # Small classes (scores, above all) share what is left of each other's tenths.
        wanted = share * len(members) + spare
        count = min(int(wanted), len(members) - 1)
        spare = wanted - count
        held.update(members[:count])
    kept = [e for i, e in enumerate(examples) if i not in held]
    return kept, [examples[i] for i in sorted(held)]


def write_csv(path: pathlib.Path, examples: list) -> None:
    """Writes examples as a CSV file, atomically."""

    def write(temporary):
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            pair = examples[0].text_pair is not None
            writer.writerow(["text", "text_pair", "label"] if pair else ["text", "label"])
            for e in examples:
                writer.writerow([e.text, e.text_pair, e.label] if pair else [e.text, e.label])

    files.write_atomic(path, write)
