"""Plain text files, a document a line."""

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator

from embbert_tf import errors
from embbert_tf.data.files import PathLike

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def split_sentences(document: str) -> list[str]:
    """Returns the sentences of a text: what ends with a full stop, "!" or "?" before a space."""
    return _SENTENCE_END.split(document)


def read_documents(paths: Iterable[PathLike]) -> Iterator[str]:
    """Streams documents from text files.

    Args:
        paths: Files with a document a line, UTF-8, plain or gzip-compressed (`.gz`).

    Yields:
        The lines that are not blank.

    Raises:
        CorpusError: with file and line, if a file cannot be read or is not UTF-8.
    """
    for path in paths:
        path = os.fspath(path)
        number = 0
        try:
            with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as stream:
                for raw in io.BufferedReader(stream, 1 << 20):
                    number += 1
                    text = raw.decode("utf-8").strip()
                    if text:
                        yield text
        except UnicodeDecodeError as error:
            raise errors.CorpusError(
                f"{path}:{number}: byte 0x{error.object[error.start]:02x} at position "
                f"{error.start + 1} of the line is not UTF-8; save the file as UTF-8"
            ) from error
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise errors.CorpusError(f"{path}:{number + 1}: cannot be read ({reason})") from error
