"""CSV files: the one reader and the one writer.

Files are UTF-8 with or without a byte order mark, plain or gzip-compressed (`.gz`), separated by
commas, with the names of the columns in the first line.
"""

import collections
import contextlib
import csv
import gzip
import io
import os
import shlex
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.data.files import PathLike

# Python's own limit, 131,072 characters, is less than a long document has. The limit is one for the
# whole process, so it is set once, and never lowered.
_LONGEST_FIELD = 1 << 27
csv.field_size_limit(max(_LONGEST_FIELD, csv.field_size_limit()))

# Byte order marks of UTF-16; that of UTF-32 begins alike.
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SEPARATORS = {"\t": "a tab", ";": "';'", "|": "'|'"}


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


def read_rows(path: PathLike) -> Iterator[tuple[int, list[str]]]:
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


def _check_separator(header: str, path: str) -> None:
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


def write_rows(path: PathLike, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file, atomically.

    Args:
        path: The file; compressed if it ends in `.gz`.
        header: Names of the columns.
        rows: As many fields each.

    Raises:
        FileError: It cannot be written.
    """

    def write(temporary):
        with contextlib.ExitStack() as stack:
            raw: Any = stack.enter_context(open(temporary, "wb"))
            if os.fspath(path).endswith(".gz"):
                # Without name and hour, so that the same rows are the same bytes.
                raw = stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0))
            file = stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)

    files.write_atomic(path, write)
