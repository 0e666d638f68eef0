"""Arrays as bytes between a process and its child, which may be under a hostile file's control."""

import io
import zipfile
from collections.abc import Sequence

import numpy as np


def pack(answers: Sequence[Sequence[np.ndarray]]) -> bytes:
    """Returns the arrays of several inferences as bytes."""
    stream = io.BytesIO()
    named = {f"{i}.{j}": a for i, arrays in enumerate(answers) for j, a in enumerate(arrays)}
    np.savez(stream, **named)  # type: ignore[arg-type]
    return stream.getvalue()


def unpack(data: bytes) -> list[list[np.ndarray]]:
    """Returns the arrays; the opposite of `pack`.

    Raises:
        ValueError: The bytes are something else.
    """
    result: list[list[np.ndarray]] = []
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            for name in archive.files:
                inference = int(name.split(".")[0])
                while len(result) <= inference:
                    result.append([])
                result[inference].append(archive[name])
    except (zipfile.BadZipFile, OSError, KeyError) as error:
        raise ValueError(f"not the child's answer: {error}") from error
    return result
