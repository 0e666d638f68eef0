"""Writes the folder of an export: whole or not at all, and never over somebody's work."""

import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Mapping

from embbert_tf import errors
from embbert_tf.data import files

# Lists the files of an export with their SHA-256, so that the next one knows what it may replace.
MANIFEST = "embbert_export.json"
_MOST_NAMED = 3


class ExportError(errors.EmbBertError):
    """An export that cannot be made; the message says why and how to mend it."""


def check(output: files.PathLike) -> None:
    """Makes sure that an export may be written to a folder; writes nothing.

    Raises:
        ExportError: There is something in it that no export has written.
        FileError: It cannot be made or written to.
    """
    path = pathlib.Path(output)
    files.check_folder(path)
    files.check_folder(path.absolute().parent)
    if path.is_dir() and pathlib.Path.cwd().is_relative_to(path.resolve()):
        raise ExportError(f"{path}: the current folder cannot be replaced; start from another one")
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not (path / MANIFEST).is_file():
        raise ExportError(
            f"{path}: there are files in it that are not an earlier export's; give a folder that "
            "is empty or does not exist"
        )
    foreign = _foreign(path)
    if foreign:
        more = f" and {len(foreign) - _MOST_NAMED} more" if len(foreign) > _MOST_NAMED else ""
        raise ExportError(
            f"{path}: {', '.join(foreign[:_MOST_NAMED])}{more} changed or added since the export; "
            "move them away, or export to another folder"
        )


def _foreign(path: pathlib.Path) -> list[str]:
    """Returns the files of an earlier export that are not as it wrote them."""
    try:
        listed = files.read_json(path / MANIFEST)["files"]
        known = {str(name): str(digest) for name, digest in listed.items()}
    except (errors.RunError, KeyError, AttributeError) as error:
        raise ExportError(
            f"{path / MANIFEST}: not a list of an export's files; export to another folder"
        ) from error
    foreign = []
    for found in sorted(path.rglob("*")):
        name = found.relative_to(path).as_posix()
        if name == MANIFEST or (found.is_dir() and not found.is_symlink()):
            continue
        if found.is_symlink() or name not in known or files.sha256(found) != known[name]:
            foreign.append(name)
    return foreign


def write(output: files.PathLike, contents: Mapping[str, bytes], facts: Mapping[str, str]) -> None:
    """Writes the files into a new folder and puts that in the place of `output` in one step.

    Args:
        output: The folder; an earlier export there is replaced.
        contents: The files, by their path in the folder.
        facts: What the manifest says of the export beside its files.

    Raises:
        ExportError: There is something in `output` that no export has written.
        FileError: It cannot be written; what was there is as it was.
    """
    check(output)
    target = pathlib.Path(output).resolve()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    manifest = json.dumps({**facts, "files": digests}, indent=1) + "\n"
    files.make_folder(target.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as temporary:
            fresh = pathlib.Path(temporary) / "new"
            for name, data in {**contents, MANIFEST: manifest.encode()}.items():
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).write_bytes(data)
            old = pathlib.Path(temporary) / "old"
            if target.exists():
                os.replace(target, old)
            try:
                os.replace(fresh, target)
            except OSError:
                if old.exists():
                    os.replace(old, target)
                raise
    except OSError as error:
        reason = error.strerror or error
        raise errors.FileError(f"{output}: cannot be written ({reason})") from error
