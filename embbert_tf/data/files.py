"""Files written in one step, JSON, and hashes."""

import hashlib
import json
import os
import pathlib
import tempfile

from embbert_tf import errors


def sha256(path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path) -> dict:
    """Reads a JSON object.

    Raises:
        RunError: if the file cannot be read or is not a JSON object.
    """
    try:
        value = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise errors.RunError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise errors.RunError(f"{path}: not a JSON object")
    return value


def write_atomic(path, write) -> None:
    """Lets `write(temporary path)` make a file, then puts it in place in one step.

    A process killed at any moment leaves the old file or the new one, never a half of it.

    Args:
        path: Where the file belongs.
        write: Called with a path in the same folder that ends like `path`.
    """
    path = pathlib.Path(path)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        temporary = pathlib.Path(folder) / path.name
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)


def write_json(path, value: dict) -> None:
    """Writes a JSON file atomically."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def digest(path: str | None) -> str | None:
    """Returns the SHA-256 of a file of the user's, in hexadecimal; None of None.

    Raises:
        DataError: It cannot be read.
    """
    if path is None:
        return None
    try:
        return sha256(path)
    except OSError as error:
        raise errors.DataError(f"{path}: cannot be opened ({error.strerror or error})") from error
