"""The portable graph with FULLY_CONNECTED filters of 4 bits.

TFLM's FULLY_CONNECTED takes INT4 filters of one scale (`fully_connected_common.cc` refuses one a
channel), and keeps activations in int8. Its reference kernel unpacks the whole filter into the
arena on each call, CMSIS-NN's (`arm_fully_connected_s4`) as it goes. So the file gets smaller, and
what that costs depends on the kernels: `python -m converters.benchmarks.filters` prints it.
"""

import dataclasses

import numpy as np

from converters.tflite import graph as graph_lib
from converters.tflite import reader, writer
from embbert_tf import errors
from embbert_tf.data import files

_MOST = 7
_STEPS = np.linspace(4.0, 20.0, 129)  # in int8 steps; 127 / 7 is 18.1


class Int4FilterError(errors.EmbBertError):
    """A graph without any filter that can be packed."""


@dataclasses.dataclass(frozen=True)
class Packed:
    """A graph whose filters were packed.

    Attributes:
        tflite: The file.
        filters: How many filters have 4 bits now.
        left: How many stay at 8, for they have a scale a channel.
    """

    tflite: bytes
    filters: int
    left: int


def pack(tflite: bytes) -> Packed:
    """Packs every FULLY_CONNECTED filter of int8 that has one scale.

    Each is rounded to codes -7..7 with the step of least squared error; its bias follows the scale.

    Args:
        tflite: A full-int8 `.tflite`.

    Raises:
        FlatbufferError: It is no readable `.tflite`.
        Int4FilterError: It has no such filter.
    """
    graph = reader.read(tflite)
    packed, left = set(), set()
    for op in graph.ops:
        if op.kind != "FULLY_CONNECTED":
            continue
        weights = op.inputs[1]
        if weights is None or weights.data is None or weights.dtype != np.int8:
            continue
        if np.size(weights.scale) != 1:
            left.add(id(weights))
            continue
        users = [user for user in graph.ops if weights in user.inputs]
        if len(users) > 1:  # their biases would have to follow, too
            left.add(id(weights))
            continue
        factor = _pack_tensor(weights)
        if len(op.inputs) > 2 and op.inputs[2] is not None:
            _rescale(op.inputs[2], factor)
        packed.add(id(weights))
    if not packed:
        raise Int4FilterError("no FULLY_CONNECTED filter of int8 with one scale, nothing to pack")
    return Packed(writer.write(graph), len(packed), len(left))


def _pack_tensor(weights: graph_lib.Tensor) -> float:
    """Turns a filter into INT4, in place; returns what its scale was multiplied by."""
    values = np.asarray(weights.data, np.float64)
    missed = [np.square(_codes(values, step) * step - values).sum() for step in _STEPS]
    step = float(_STEPS[int(np.argmin(missed))])
    codes = _codes(values, step).astype(np.int8).ravel()
    codes = np.append(codes, np.zeros(codes.size % 2, np.int8)) & 15
    weights.data = (codes[0::2] | codes[1::2] << 4).astype(np.uint8)
    weights.dtype, weights.type_name = None, "INT4"
    weights.scale = np.float32(np.asarray(weights.scale).ravel()[0] * step)
    return step


def _codes(values: np.ndarray, step: float) -> np.ndarray:
    return np.clip(np.round(values / step), -_MOST, _MOST)


def _rescale(bias: graph_lib.Tensor, factor: float) -> None:
    """Multiplies a bias's scale, in place; it keeps its values."""
    assert bias.data is not None
    bias.data = np.round(bias.data / factor).astype(bias.data.dtype)
    bias.scale = np.float32(np.asarray(bias.scale).ravel()[0] * factor)


def pack_file(source: files.PathLike, target: files.PathLike) -> str:
    """Writes a file with packed filters.

    Args:
        source: A full-int8 `.tflite`.
        target: The file to write.

    Returns:
        One line: how many filters were packed, and the bytes of both files.

    Raises:
        FlatbufferError, Int4FilterError: As `pack` does.
        FileError: A file cannot be read or written.
    """
    data = files.read_bytes(source)
    try:
        packed = pack(data)
    except (graph_lib.FlatbufferError, Int4FilterError) as error:
        raise type(error)(f"{source}: {error}") from error
    files.write_bytes(target, packed.tflite)
    left = f", {packed.left} stay at 8" if packed.left else ""
    return (
        f"{target}: {packed.filters} filters of 4 bits{left}; {len(packed.tflite):,} bytes, from "
        f"{len(data):,}"
    )
