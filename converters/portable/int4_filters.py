"""The portable graph with FULLY_CONNECTED filters of 4 bits.

TFLM's FULLY_CONNECTED takes INT4 filters of one scale (`fully_connected_common.cc` refuses one a
channel), and keeps activations in int8. Its reference kernel unpacks the whole filter into the
arena on each call, CMSIS-NN's (`arm_fully_connected_s4`) as it goes. So the file gets smaller, and
what that costs depends on the kernels: `python -m converters.benchmarks.filters` prints it.
"""

import dataclasses
from typing import Any

import numpy as np

from converters.kernels import packing
from converters.tflite import graph as graph_lib
from converters.tflite import reader, writer
from embbert_tf import errors
from embbert_tf.data import files

_STEPS = np.linspace(4.0, 20.0, 129)  # in int8 steps; 127 / 7 is 18.1


class Int4FilterError(errors.EmbBertError):
    """A graph without any filter that can be packed, or of more than one subgraph."""


@dataclasses.dataclass(frozen=True)
class Packed:
    """A graph whose filters were packed.

    Attributes:
        tflite: The file.
        filters: How many filters have 4 bits now.
        left: How many stay at 8: they have a scale a channel, or share weights or bias.
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
        Int4FilterError: It has no such filter, or more than one subgraph.
    """
    graph = reader.read(tflite)
    if graph.other_subgraphs:
        raise Int4FilterError(f"{graph.other_subgraphs + 1} subgraphs, and one alone is packed")
    ops = [op for op in graph.ops if op.kind == "FULLY_CONNECTED" and _is_int8(op.inputs[1])]
    packed = 0
    for op in ops:
        own = [tensor for tensor in op.inputs[1:] if tensor is not None]
        shared = any(tensor in other.inputs for other in graph.ops if other is not op
                     for tensor in own)  # fmt: skip
        if np.size(own[0].scale) == 1 and not shared:
            factor = _pack_tensor(own[0])
            for bias in own[1:]:
                _rescale(bias, factor)
            packed += 1
    if not packed:
        raise Int4FilterError("no FULLY_CONNECTED filter of int8 with one scale, nothing to pack")
    distinct = {id(op.inputs[1]) for op in ops}
    return Packed(writer.write(graph), packed, len(distinct) - packed)


def _is_int8(weights: graph_lib.Tensor | None) -> bool:
    return weights is not None and weights.data is not None and weights.dtype == np.int8


def _pack_tensor(weights: Any) -> float:
    """Turns a filter into INT4, in place; returns what its scale was multiplied by."""
    values = np.asarray(weights.data, np.float64)
    missed = [np.square(_codes(values, step) * step - values).sum() for step in _STEPS]
    step = float(_STEPS[int(np.argmin(missed))])
    codes = _codes(values, step).astype(np.int8)
    weights.data = packing.pack_table(codes.reshape(1, -1), 4)[0]
    weights.dtype, weights.type_name = None, "INT4"
    weights.scale = np.float32(np.asarray(weights.scale).ravel()[0] * step)
    return step


def _codes(values: np.ndarray, step: float) -> np.ndarray:
    return np.clip(np.round(values / step), -packing.MOST_CODE, packing.MOST_CODE)


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
