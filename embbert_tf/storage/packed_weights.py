"""Weights of a run in a small file: the form in which `zoo/` keeps them.

`fp32.keras` and `qat.keras` of the reference model hold 1.4 MB of weights each. `weights.npz` holds
both in little more than one of them: every weight as a float32 whose fraction is rounded to
`FRACTION_BITS` bits, and of the quantization-aware weights how far each lies from its fp32 weight,
in steps of that format. The steps are few, so they compress well.

Rounding happens once, before anything is measured or converted from the file; both models are
computed in float32 from there on.

| entry of `weights.npz` | content |
| --- | --- |
| `fp32/<weight>` | uint8 (3, ...shape): bytes, high to low, of sign, exponent and fraction |
| `qat/<weight>` | uint8 (3, ...shape): bytes of the steps from fp32, counted 0, -1, 1, -2, 2, ... |

`<weight>` is the Keras name of the weight in `EmbBertClassifier`, such as `block_0/norm/gain`.
"""

import io
import pathlib
import zipfile
import zlib

import numpy as np

from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.data.files import PathLike

PACKED = "weights.npz"
# Of 23. Two more than half precision has, for a quarter of its error; with 13 the reference model
# would still fit into the zoo's 2 MB, but not whatever its two sets of weights are.
FRACTION_BITS = 12
_DROPPED = 23 - FRACTION_BITS
_PLAIN, _QAT = "fp32/", "qat/"


def _planes(words: np.ndarray) -> np.ndarray:
    """uint32 (...) below 2^24 to uint8 (3, ...). Apart, high and low bytes compress better."""
    return np.stack([words >> 16 & 255, words >> 8 & 255, words & 255]).astype(np.uint8)


def _words(planes: np.ndarray) -> np.ndarray:
    planes = planes.astype(np.uint32)
    return planes[0] << 16 | planes[1] << 8 | planes[2]


def _wrap(steps: np.ndarray) -> np.ndarray:
    """int32 to what is congruent to it modulo 2^24 in -2^23..2^23-1."""
    return (steps + (1 << 23) & (1 << 24) - 1) - (1 << 23)


def _order(words: np.ndarray) -> np.ndarray:
    """Sign, exponent and fraction to int32 such that neighbours differ by 1; 0 and -0 give 0."""
    sign = 1 << (8 + FRACTION_BITS)
    value = words.astype(np.int32)
    return np.where(value & sign, -(value & (sign - 1)), value)


def _from_order(order: np.ndarray) -> np.ndarray:
    sign = 1 << (8 + FRACTION_BITS)
    return np.where(order < 0, sign | -order, order).astype(np.uint32)


def _to_float(words: np.ndarray) -> np.ndarray:
    return (words << _DROPPED).astype(np.uint32).view(np.float32)


def round_words(name: str, value: np.ndarray) -> np.ndarray:
    """Returns sign, exponent and rounded fraction of float32 values, as uint32.

    Raises:
        PackedWeightsError: One is not finite, or too large to be rounded.
    """
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    # Half a step onto the magnitude, whose carry into the exponent is right; an overflow is inf.
    words = ((bits & 0x7FFFFFFF) + (1 << _DROPPED >> 1)) >> _DROPPED | bits >> 31 << (
        8 + FRACTION_BITS
    )
    if not (np.isfinite(value).all() and np.isfinite(_to_float(words)).all()):
        raise errors.PackedWeightsError(f"{name}: a weight is not finite, or too large")
    return words


def rounded(value: np.ndarray) -> np.ndarray:
    """Returns float32 values as `pack` and `unpack` leave them, but for the sign of 0."""
    return _to_float(round_words("value", value))


def pack(names: list[str], plain: list[np.ndarray], trained: list[np.ndarray]) -> bytes:
    """Returns the bytes of a `weights.npz`.

    Args:
        names: Of the weights.
        plain: fp32 weights, each float32.
        trained: The same after quantization-aware training.

    Raises:
        PackedWeightsError: A weight is not finite, or too large.
    """
    arrays = {}
    for name, value, other in zip(names, plain, trained, strict=True):
        words, other_words = round_words(name, value), round_words(name, other)
        arrays[_PLAIN + name] = _planes(words)
        # Steps beyond 24 bits wrap around, and wrap back in `unpack`. Zigzag keeps the high bytes
        # of a small step at 0 whatever its sign.
        steps = _wrap(_order(other_words) - _order(words))
        arrays[_QAT + name] = _planes(((steps << 1) ^ (steps >> 31)).astype(np.uint32))
    buffer = io.BytesIO()
    # Not numpy.savez: that stamps entries with the time, and equal weights shall give equal files.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, array, allow_pickle=False)
            information = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            information.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(information, entry.getvalue())
    return buffer.getvalue()


def unpack(
    path: PathLike, shapes: dict[str, tuple[int, ...]]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Reads a `weights.npz`.

    Args:
        path: The file.
        shapes: Name to shape of every weight of the model.

    Returns:
        (fp32 weights, weights after quantization-aware training), both float32 in the order of
        `shapes`.

    Raises:
        PackedWeightsError: The file is damaged, or of another model; the message names the weight.
        FileError: There is none.
    """
    path = pathlib.Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("not an .npz file")
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise files.unreadable(path, error) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise errors.PackedWeightsError(
            f"{path}: cannot be read ({error}); copy it anew"
        ) from error
    wanted = {prefix + name: shape for name, shape in shapes.items() for prefix in (_PLAIN, _QAT)}
    for name in sorted({*arrays} ^ {*wanted}):
        raise errors.PackedWeightsError(
            f"{path}: {'missing' if name in wanted else 'surplus'} {name}"
        )
    plain, trained = [], []
    for name, shape in shapes.items():
        for prefix in (_PLAIN, _QAT):
            array = arrays[prefix + name]
            if array.dtype != np.uint8 or array.shape != (3, *shape):
                raise errors.PackedWeightsError(
                    f"{path}: {prefix}{name} is {array.dtype} {list(array.shape)}, not uint8 "
                    f"{[3, *shape]}"
                )
        words = _words(arrays[_PLAIN + name])
        zigzag = _words(arrays[_QAT + name]).astype(np.int32)
        steps = (zigzag >> 1) ^ -(zigzag & 1)
        value = _to_float(words)
        other = _to_float(_from_order(_wrap(_order(words) + steps)))
        if words.max(initial=0) >> (9 + FRACTION_BITS) or not (
            np.isfinite(value).all() and np.isfinite(other).all()
        ):
            raise errors.PackedWeightsError(f"{path}: {name} has a value that is no finite number")
        plain.append(value)
        trained.append(other)
    return plain, trained
