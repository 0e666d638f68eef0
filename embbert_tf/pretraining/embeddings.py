"""A file of texts, each with its embedding by a sentence encoder.

Safetensors, so that any framework writes one:

| tensor | type, shape | content |
| --- | --- | --- |
| `embeddings` | float16 (texts, d) | rows of length 1 |
| `text` | uint8 (bytes,) | all texts as UTF-8, one after the other |
| `ends` | int64 (texts,) | where each text ends in `text` |

Its metadata have the encoder's name as `encoder`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import safetensors
import safetensors.numpy

from embbert_tf import errors
from embbert_tf.data import files

_LENGTH_TOLERANCE = 0.02  # Of a row of float16; an encoder that does not normalise is far off.


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Texts with their embeddings.

    Attributes:
        texts: N texts.
        rows: float16 (N, d), of length 1.
        encoder: Its name.
    """

    texts: Sequence[str]
    rows: np.ndarray
    encoder: str = ""


def write_embeddings(
    path: files.PathLike, embeddings: Embeddings, about: dict[str, str] | None = None
) -> None:
    """Writes a file of embeddings.

    Args:
        path: `.safetensors`.
        embeddings: What to write.
        about: More metadata.

    Raises:
        FileError: It cannot be written.
    """
    encoded = [text.encode() for text in embeddings.texts]
    tensors: dict[str, np.ndarray] = {
        "embeddings": np.ascontiguousarray(embeddings.rows, np.float16),
        "text": np.frombuffer(b"".join(encoded), np.uint8),
        "ends": np.cumsum([len(text) for text in encoded], dtype=np.int64),
    }
    metadata = {"encoder": embeddings.encoder, **(about or {})}
    files.write_atomic(path, lambda target: safetensors.numpy.save_file(tensors, target, metadata))


def read_metadata(path: files.PathLike) -> dict[str, str]:
    """Returns the metadata of a file of embeddings.

    Raises:
        EncoderError: It is no such file.
        FileError: It cannot be opened.
    """
    try:
        with safetensors.safe_open(path, "np") as file:
            return dict(file.metadata() or {})
    except OSError as error:
        raise files.unreadable(path, error) from error
    except safetensors.SafetensorError as error:
        raise errors.EncoderError(f"{path}: no safetensors file ({error})") from error


def read_embeddings(path: files.PathLike) -> Embeddings:
    """Reads a file of embeddings.

    Raises:
        EncoderError: It is no such file, or damaged.
        FileError: It cannot be opened.
    """
    metadata = read_metadata(path)
    raw = files.read_bytes(path)
    try:
        tensors = safetensors.numpy.load(raw)
        rows, text, ends = (tensors[name] for name in ("embeddings", "text", "ends"))
    except (safetensors.SafetensorError, KeyError) as error:
        raise errors.EncoderError(
            f"{path}: not a file of embeddings ({error}); embbert_tf.embed_texts writes one"
        ) from error
    if rows.ndim != 2 or not len(rows) or ends.shape != rows.shape[:1] or text.dtype != np.uint8:
        raise errors.EncoderError(
            f"{path}: {list(rows.shape)} embeddings for {list(ends.shape)} texts; write the file "
            "again with embbert_tf.embed_texts"
        )
    lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
    # Also where a row is not finite.
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < _LENGTH_TOLERANCE))
    if len(wrong):
        raise errors.EncoderError(
            f"{path}: the embedding of text {wrong[0] + 1} has the length "
            f"{lengths[wrong[0]]:.3g}, not 1; divide each row by its length"
        )
    starts = np.concatenate([[0], ends[:-1]])
    if (ends < starts).any() or ends[-1] != len(text):
        raise errors.EncoderError(f"{path}: the ends of the texts do not fit their bytes")
    whole = text.tobytes()
    try:
        texts = [whole[a:b].decode() for a, b in zip(starts, ends, strict=True)]
    except UnicodeDecodeError as error:
        raise errors.EncoderError(f"{path}: a text is not UTF-8 ({error})") from error
    return Embeddings(texts, rows, metadata.get("encoder", ""))
