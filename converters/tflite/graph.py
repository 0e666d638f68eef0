"""A small graph between Python and the `.tflite` flatbuffer, read and written without ballast.

`read` turns any `.tflite` into a `Graph`; `write` turns a `Graph` into a file in which everything
that recurs (shapes, quantization parameters, options, equal constants) is stored once and nothing
is stored that TFLM does not read: no tensor names but those of inputs and outputs, no description.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from embbert_tf import errors

DTYPES: dict[int, np.dtype] = {
    schema.TensorType.FLOAT32: np.dtype(np.float32),
    schema.TensorType.FLOAT16: np.dtype(np.float16),
    schema.TensorType.FLOAT64: np.dtype(np.float64),
    schema.TensorType.INT8: np.dtype(np.int8),
    schema.TensorType.UINT8: np.dtype(np.uint8),
    schema.TensorType.INT16: np.dtype(np.int16),
    schema.TensorType.UINT16: np.dtype(np.uint16),
    schema.TensorType.INT32: np.dtype(np.int32),
    schema.TensorType.UINT32: np.dtype(np.uint32),
    schema.TensorType.INT64: np.dtype(np.int64),
    schema.TensorType.UINT64: np.dtype(np.uint64),
    schema.TensorType.BOOL: np.dtype(np.bool_),
}
_TYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}
TYPE_NAMES = {
    value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")
}
OPTION_NAMES = {
    value: name for name, value in vars(schema.BuiltinOptions).items() if not name.startswith("_")
}
# Where the schema's options type is not the operator's name in camel case + "Options".
_OPTIONS_OF = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "LOGISTIC": None,
    "RSQRT": None,
    "CUSTOM": None,
}
FILE_IDENTIFIER = b"TFL3"


class FlatbufferError(errors.EmbBertError):
    """The bytes are not a readable `.tflite`."""


@dataclasses.dataclass(eq=False)
class Tensor:
    """One tensor. Compared by identity, as two tensors may look alike.

    Attributes:
        name: What it is, for people; written to the file for inputs and outputs only.
        shape: Static shape.
        dtype: NumPy dtype, or None for types NumPy lacks (`type_name` has it then). The constructor
            takes whatever `np.dtype` takes.
        scale: None (not quantized), a float, or an array with one scale a channel.
        zero_point: Quantized value of real 0.
        axis: Channel axis of an array `scale`.
        data: Constant value, or None for an activation.
        type_name: TFLite's name of the type, such as "INT8".
        is_variable: State that lives between invocations.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Any
    scale: Any = None
    zero_point: int | np.ndarray = 0
    axis: int = 0
    data: np.ndarray | None = None
    type_name: str = ""
    is_variable: bool = False

    def __post_init__(self):
        if self.dtype is not None:
            self.dtype = np.dtype(self.dtype)
            self.type_name = self.type_name or TYPE_NAMES[_TYPE_CODES[self.dtype]]
        if self.data is not None and tuple(self.data.shape) != tuple(self.shape):
            raise ValueError(f"tensor '{self.name}': data {self.data.shape} != shape {self.shape}")

    @property
    def nbytes(self) -> int:
        """Size of the tensor's value in bytes."""
        bits = {"INT4": 4, "INT2": 2, "COMPLEX64": 64, "COMPLEX128": 128, "STRING": 0}
        count = math.prod(self.shape)
        if self.dtype is not None:
            return count * self.dtype.itemsize
        return (count * bits.get(self.type_name, 8) + 7) // 8


@dataclasses.dataclass(eq=False)
class Op:
    """One operator.

    Attributes:
        kind: Name in the schema's BuiltinOperator, such as "FULLY_CONNECTED"; "CUSTOM" for a custom
            operator.
        inputs: Tensors, None for an omitted optional input.
        outputs: Tensors.
        options: The schema's options object (`schema.FullyConnectedOptionsT`, ...) or None.
        version: Operator version.
        custom_code: Name of a custom operator.
        custom_options: Its options, opaque bytes.
        intermediates: Tensors that only the operator itself uses (LSTM).
    """

    kind: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: Any = None
    version: int = 1
    custom_code: str = ""
    custom_options: bytes = b""
    intermediates: list[Tensor] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Graph:
    """One subgraph: operators in the order in which they run.

    Attributes:
        inputs: Graph inputs.
        outputs: Graph outputs.
        ops: Operators in execution order.
        tensors: Every tensor, in file order (after `read`; `write` finds its own order).
        metadata: Named byte strings of the file.
        other_subgraphs: Number of further subgraphs in the file, which `read` does not follow.
    """

    inputs: list[Tensor]
    outputs: list[Tensor]
    ops: list[Op]
    tensors: list[Tensor] = dataclasses.field(default_factory=list)
    metadata: dict[str, bytes] = dataclasses.field(default_factory=dict)
    other_subgraphs: int = 0

    def ordered_tensors(self) -> list[Tensor]:
        """All tensors: inputs, then in the order in which operators name them."""
        seen: dict[int, Tensor] = {}
        for tensor in self.inputs:
            seen.setdefault(id(tensor), tensor)
        for op in self.ops:
            for named in [*op.inputs, *op.outputs, *op.intermediates]:
                if named is not None:
                    seen.setdefault(id(named), named)
        for tensor in self.outputs:
            seen.setdefault(id(tensor), tensor)
        return list(seen.values())


def options(kind: str, **fields: Any) -> Any:
    """Returns the schema's options object of operator `kind` with `fields` set.

    Raises:
        AttributeError: A field that the options do not have.
    """
    name = _OPTIONS_OF.get(kind, "".join(p.capitalize() for p in kind.split("_")) + "Options")
    if name is None:
        return None
    result = getattr(schema, name + "T")()
    for key, value in fields.items():
        if not hasattr(result, key):
            raise AttributeError(f"{name} has no field '{key}'")
        setattr(result, key, value)
    return result
