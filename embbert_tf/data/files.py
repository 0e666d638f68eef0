"""Files of the user's: written in one step, JSON, hashes; and errors that say what to mend."""

import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from embbert_tf import errors

PathLike = str | os.PathLike[str]


def sha256(path: PathLike) -> str:
    """Returns the SHA-256 of a file, in hexadecimal.

    Raises:
        FileError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: PathLike, error: OSError) -> errors.FileError:
    """Returns what to raise where a file cannot be opened or read."""
    return errors.FileError(f"{os.fspath(path)}: cannot be opened ({error.strerror or error})")


def read_bytes(path: PathLike) -> bytes:
    """Returns the content of a file.

    Raises:
        FileError: It cannot be read.
    """
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def read_json(path: PathLike) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        RunError: The file cannot be read or is not a JSON object.
    """
    try:
        value = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise errors.RunError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise errors.RunError(f"{path}: not a JSON object")
    return value


def write_atomic(path: PathLike, write: Callable[[pathlib.Path], Any]) -> None:
    """Lets `write(temporary path)` make a file, then puts it in place in one step.

    A process killed at any moment leaves the old file or the new one, never a half of it.

    Args:
        path: Where the file belongs; its folder is there already.
        write: Called with a path in the same folder that ends like `path`.

    Raises:
        FileError: The file cannot be written; the old one, if there was one, is untouched.
    """
    path = pathlib.Path(path)
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no regular file"
            raise errors.FileError(f"{path}: is {kind}; give the name of a file")
        # Of a link, what it points to is replaced.
        target = path.resolve()
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as folder:
            temporary = pathlib.Path(folder) / target.name
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
            reason = f"there is no folder {path.parent}; make it first"
        raise errors.FileError(f"{path}: cannot be written ({reason})") from error


def write_bytes(path: PathLike, content: bytes) -> None:
    """Writes a file atomically; raises FileError as `write_atomic` does."""
    write_atomic(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: PathLike, text: str) -> None:
    """Writes a UTF-8 file atomically, line ends as they are; raises FileError."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: PathLike, value: dict[str, Any]) -> None:
    """Writes a JSON file atomically; raises FileError as `write_atomic` does."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def copy(source: PathLike, target: PathLike) -> None:
    """Copies a file atomically.

    Raises:
        FileError: One cannot be read or the other not be written.
    """
    if pathlib.Path(source).resolve() != pathlib.Path(target).resolve():
        sha256(source)  # So that the message names the file at fault.
        write_atomic(target, lambda temporary: shutil.copyfile(source, temporary))


def check_target(path: PathLike) -> None:
    """Makes sure that a file can be written where its folder is there already, writing nothing.

    Raises:
        FileError: It cannot.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise errors.FileError(f"{path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise errors.FileError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise errors.FileError(f"{path}: {path.parent} cannot be written to; take another folder")


def check_folder(path: PathLike) -> None:
    """Makes sure that a folder can be made, or written to, without making anything.

    Raises:
        FileError: It cannot.
    """
    path = pathlib.Path(path)
    existing = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
    if not existing.is_dir():
        raise errors.FileError(f"{path}: cannot be a folder, as {existing} is none; take another")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise errors.FileError(f"{path}: {existing} cannot be written to; take another folder")


def make_folder(path: PathLike) -> pathlib.Path:
    """Makes a folder and those above it where they are missing, and returns its path.

    Raises:
        FileError: It cannot be made.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise errors.FileError(f"{path}: cannot be made a folder ({reason})") from error
    return path
