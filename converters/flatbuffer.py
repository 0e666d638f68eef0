"""A small graph between Python and the `.tflite` flatbuffer, read and written without ballast.

`read` turns any `.tflite` into a `Graph`; `write` turns a `Graph` into a file in which everything
that recurs (shapes, quantization parameters, options, equal constants) is stored once and nothing
is stored that TFLM does not read: no tensor names but those of inputs and outputs, no description.
"""

import dataclasses
import math
import struct

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_DTYPES = {
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
_TYPE_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_TYPE_NAMES = {
    value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")
}
_OPERATOR_NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
_OPTION_NAMES = {
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
_FILE_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_BUFFER_ALIGNMENT = 16  # force_align of Buffer.data in the schema


class FlatbufferError(ValueError):
    """The bytes are not a readable `.tflite`."""


@dataclasses.dataclass(eq=False)
class Tensor:
    """One tensor. Compared by identity, as two tensors may look alike.

    Attributes:
      name: What it is, for people; written to the file for inputs and outputs only.
      shape: Static shape.
      dtype: NumPy dtype, or None for types NumPy lacks (`type_name` has it then).
      scale: None (not quantized), a float, or an array with one scale a channel.
      zero_point: Quantized value of real 0.
      axis: Channel axis of an array `scale`.
      data: Constant value, or None for an activation.
      type_name: TFLite's name of the type, such as "INT8".
      is_variable: State that lives between invocations.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype | None
    scale: float | np.ndarray | None = None
    zero_point: int | np.ndarray = 0
    axis: int = 0
    data: np.ndarray | None = None
    type_name: str = ""
    is_variable: bool = False

    def __post_init__(self):
        if self.dtype is not None:
            self.dtype = np.dtype(self.dtype)
            self.type_name = self.type_name or _TYPE_NAMES[_TYPE_CODES[self.dtype]]
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
    options: object | None = None
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
            for tensor in [*op.inputs, *op.outputs, *op.intermediates]:
                if tensor is not None:
                    seen.setdefault(id(tensor), tensor)
        for tensor in self.outputs:
            seen.setdefault(id(tensor), tensor)
        return list(seen.values())


def options(kind: str, **fields) -> object | None:
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


def is_tflite(data: bytes) -> bool:
    """Whether `data` carries the `.tflite` file identifier."""
    return len(data) >= 8 and data[4:8] == _FILE_IDENTIFIER


def read(data: bytes, subgraph: int = 0) -> Graph:
    """Reads one subgraph of a `.tflite`.

    Time and memory stay in proportion to the file whatever it holds: offsets that lead nowhere,
    absurd lengths and tables that share one large name or vector are errors.

    Args:
      data: The file.
      subgraph: Its index; 0 is the one that the interpreter runs.

    Raises:
      FlatbufferError: `data` is no `.tflite`, or offsets in it lead nowhere.
    """
    if not is_tflite(data):
        raise FlatbufferError("not a .tflite: the file identifier 'TFL3' is missing at byte 4")
    try:
        return _Reader(data).graph(subgraph)
    except FlatbufferError:
        raise
    except struct.error as error:
        raise FlatbufferError("damaged .tflite: an offset leads outside the file") from error
    except (
        IndexError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise FlatbufferError(f"damaged .tflite: {error}") from error


class _Reader:
    """Reads tables where they lie; every step that a file can multiply is counted."""

    # Models have some hundreds of tensors, the largest some ten thousands.
    _MOST_TABLES = 250_000

    def __init__(self, data: bytes):
        self.data = data
        self.model = schema.Model.GetRootAs(data, 0)
        self.tables_left = self._MOST_TABLES
        self.elements_left = 16 * len(data) + (1 << 20)
        self.payloads: dict[int, bytes | None] = {}

    def count(self, length: int, what: str) -> range:
        """Range over the tables of a vector, if the file can hold that many."""
        self.tables_left -= length
        if length > len(self.data) // 4 or self.tables_left < 0:
            raise FlatbufferError(f"damaged .tflite: {length} {what}")
        return range(length)

    def spend(self, value):
        """Accounts for a string or vector, which several tables may share."""
        self.elements_left -= len(value)
        if self.elements_left < 0:
            raise FlatbufferError("damaged .tflite: its parts overlap")
        return value

    def text(self, value: bytes | None) -> str:
        return self.spend(value or b"").decode("utf-8", "replace")

    def payload(self, index: int) -> bytes | None:
        if index not in self.payloads:
            if not 0 <= index < self.model.BuffersLength():
                raise FlatbufferError(
                    f"damaged .tflite: buffer {index} of {self.model.BuffersLength()}"
                )
            buffer = self.model.Buffers(index)
            raw = None
            if buffer.DataLength():
                raw = self.spend(buffer.DataAsNumpy()).tobytes()
            elif buffer.Offset() > 1:
                # Behind the flatbuffer, as files above 2 GiB have it.
                raw = self.spend(self.data[buffer.Offset() : buffer.Offset() + buffer.Size()])
                if len(raw) != buffer.Size():
                    raise FlatbufferError(f"damaged .tflite: buffer {index} ends outside the file")
            self.payloads[index] = raw
        return self.payloads[index]

    def graph(self, number: int) -> Graph:
        model = self.model
        subgraphs = len(self.count(model.SubgraphsLength(), "subgraphs"))
        if not subgraphs:
            raise FlatbufferError("damaged .tflite: no subgraph")
        if not 0 <= number < subgraphs:
            raise FlatbufferError(f"damaged .tflite: subgraph {number} of {subgraphs}")
        subgraph = model.Subgraphs(number)
        self.count(model.BuffersLength(), "buffers")
        tensors = [
            self.tensor(index, subgraph.Tensors(index))
            for index in self.count(subgraph.TensorsLength(), "tensors")
        ]

        def pick(indices) -> list[Tensor | None]:
            # The generated code yields the number 0 for a vector that is absent.
            result = []
            for index in [] if isinstance(indices, int) else self.spend(indices).tolist():
                if not -1 <= index < len(tensors):
                    raise FlatbufferError(f"damaged .tflite: tensor {index} of {len(tensors)}")
                result.append(None if index < 0 else tensors[index])
            return result

        def chosen(indices, what: str) -> list[Tensor]:
            result = pick(indices)
            if None in result:
                raise FlatbufferError(f"damaged .tflite: {what} without a tensor")
            return result

        codes = []
        for index in self.count(model.OperatorCodesLength(), "operator codes"):
            code = model.OperatorCodes(index)
            builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            kind = _OPERATOR_NAMES.get(builtin, f"OPERATOR_{builtin}")
            codes.append((kind, self.text(code.CustomCode()), code.Version()))
        ops = []
        for index in self.count(subgraph.OperatorsLength(), "operators"):
            record = subgraph.Operators(index)
            if record.OpcodeIndex() >= len(codes):
                raise FlatbufferError(f"damaged .tflite: operator code {record.OpcodeIndex()}")
            kind, custom_code, version = codes[record.OpcodeIndex()]
            table = record.BuiltinOptions()
            settings = None
            if table is not None:
                settings = schema.BuiltinOptionsCreator(record.BuiltinOptionsType(), table)
            custom = record.CustomOptionsAsNumpy()
            ops.append(
                Op(
                    kind=kind,
                    inputs=pick(record.InputsAsNumpy()),
                    outputs=chosen(record.OutputsAsNumpy(), f"operator {index}: an output"),
                    options=settings,
                    version=version,
                    custom_code=custom_code,
                    custom_options=b"" if isinstance(custom, int) else self.spend(custom).tobytes(),
                    intermediates=chosen(
                        record.IntermediatesAsNumpy(), f"operator {index}: an intermediate"
                    ),
                )
            )
        metadata = {}
        for index in self.count(model.MetadataLength(), "metadata"):
            item = model.Metadata(index)
            metadata[self.text(item.Name())] = self.payload(item.Buffer()) or b""
        return Graph(
            inputs=chosen(subgraph.InputsAsNumpy(), "a graph input"),
            outputs=chosen(subgraph.OutputsAsNumpy(), "a graph output"),
            ops=ops,
            tensors=tensors,
            metadata=metadata,
            other_subgraphs=subgraphs - 1,
        )

    def tensor(self, index: int, record) -> Tensor:
        dtype = _DTYPES.get(record.Type())
        sizes = record.ShapeAsNumpy()
        shape = () if isinstance(sizes, int) else tuple(self.spend(sizes).tolist())
        if any(n < 0 for n in shape):
            raise FlatbufferError(f"damaged .tflite: tensor {index} has shape {shape}")
        tensor = Tensor(
            name=self.text(record.Name()) or f"#{index}",
            shape=shape,
            dtype=dtype,
            type_name=_TYPE_NAMES.get(record.Type(), f"TYPE_{record.Type()}"),
            is_variable=record.IsVariable(),
        )
        quantization = record.Quantization()
        if quantization is not None and quantization.ScaleLength():
            scales = quantization.ScaleAsNumpy()
            zeros = quantization.ZeroPointAsNumpy()
            zeros = np.zeros(1, np.int64) if isinstance(zeros, int) or not len(zeros) else zeros
            if len(scales) == 1:
                tensor.scale = float(scales[0])
                tensor.zero_point = int(zeros[0])
            else:
                tensor.scale = np.asarray(scales, np.float32)
                tensor.zero_point = zeros if len(zeros) > 1 else int(zeros[0])
                tensor.axis = quantization.QuantizedDimension()
        raw = self.payload(record.Buffer())
        if raw is not None:
            if dtype is None:
                tensor.data = np.frombuffer(raw, np.uint8)
            elif len(raw) != tensor.nbytes:
                raise FlatbufferError(
                    f"damaged .tflite: tensor {index} holds {len(raw)} bytes, "
                    f"its shape {shape} needs {tensor.nbytes}"
                )
            else:
                tensor.data = np.frombuffer(raw, dtype).reshape(shape)
        return tensor


class _Writer:
    """Builds the file back to front, as flatbuffers do, storing equal things once."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.builder = flatbuffers.Builder(1 << 16)
        self.stored: dict[tuple, int] = {}

    def vector(self, values, kind: str, alignment: int = 4) -> int:
        array = np.ascontiguousarray(values, dtype=kind)
        return self.once(
            ("vector", kind, array.tobytes()), lambda: self.builder.CreateNumpyVector(array)
        )

    def once(self, key: tuple, build) -> int:
        if key not in self.stored:
            self.stored[key] = build()
        return self.stored[key]

    def bytes_vector(self, data: bytes, alignment: int) -> int:
        builder = self.builder
        builder.StartVector(1, len(data), alignment)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        return builder.EndVector()

    def buffer(self, data: bytes) -> int:
        vector = self.bytes_vector(data, _BUFFER_ALIGNMENT)
        schema.BufferStart(self.builder)
        schema.BufferAddData(self.builder, vector)
        return schema.BufferEnd(self.builder)

    def quantization(self, tensor: Tensor) -> int:
        if tensor.scale is None:
            return 0
        scale = np.atleast_1d(np.asarray(tensor.scale, np.float32))
        zero = np.atleast_1d(np.asarray(tensor.zero_point, np.int64))
        # TFLM repeats a single zero point over the channels, but desktop TFLite refuses the file.
        zero = np.broadcast_to(zero, scale.shape)
        axis = tensor.axis if scale.size > 1 else 0

        def build():
            scale_vector = self.vector(scale, "<f4")
            zero_vector = self.vector(zero, "<i8")
            schema.QuantizationParametersStart(self.builder)
            schema.QuantizationParametersAddScale(self.builder, scale_vector)
            schema.QuantizationParametersAddZeroPoint(self.builder, zero_vector)
            schema.QuantizationParametersAddQuantizedDimension(self.builder, axis)
            return schema.QuantizationParametersEnd(self.builder)

        return self.once(("quantization", scale.tobytes(), zero.tobytes(), axis), build)

    def options(self, op: Op) -> int:
        if op.options is None:
            return 0
        fields = tuple(
            (key, tuple(value) if isinstance(value, (list, np.ndarray)) else value)
            for key, value in sorted(vars(op.options).items())
        )
        return self.once(
            ("options", type(op.options).__name__, fields), lambda: op.options.Pack(self.builder)
        )

    def offsets(self, items: list[int]) -> int:
        self.builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.builder.PrependUOffsetTRelative(item)
        return self.builder.EndVector()

    def run(self) -> bytes:
        graph, builder = self.graph, self.builder
        tensors = graph.ordered_tensors()
        index_of = {id(tensor): index for index, tensor in enumerate(tensors)}
        # Constants first: they come to lie at the end of the file, largest alignment together.
        contents: dict[bytes, int] = {}
        for tensor in tensors:
            if tensor.data is not None:
                contents.setdefault(np.ascontiguousarray(tensor.data).tobytes(), len(contents) + 1)
        for data in graph.metadata.values():
            contents.setdefault(data, len(contents) + 1)
        buffers = [self.buffer(data) for data in contents]
        schema.BufferStart(builder)
        buffers.insert(0, schema.BufferEnd(builder))
        buffers_vector = self.offsets(buffers)

        records = [self.tensor(tensor, contents) for tensor in tensors]
        tensors_vector = self.offsets(records)

        codes: dict[tuple, int] = {}
        for op in graph.ops:
            codes.setdefault((op.kind, op.custom_code, op.version), len(codes))
        operators = [self.operator(op, index_of, codes) for op in graph.ops]
        operators_vector = self.offsets(operators)
        inputs = self.vector([index_of[id(t)] for t in graph.inputs], "<i4")
        outputs = self.vector([index_of[id(t)] for t in graph.outputs], "<i4")
        schema.SubGraphStart(builder)
        schema.SubGraphAddTensors(builder, tensors_vector)
        schema.SubGraphAddInputs(builder, inputs)
        schema.SubGraphAddOutputs(builder, outputs)
        schema.SubGraphAddOperators(builder, operators_vector)
        subgraphs_vector = self.offsets([schema.SubGraphEnd(builder)])

        codes_vector = self.offsets([self.operator_code(*code) for code in codes])
        metadata_vector = 0
        if graph.metadata:
            entries = []
            for name, data in graph.metadata.items():
                text = builder.CreateString(name)
                schema.MetadataStart(builder)
                schema.MetadataAddName(builder, text)
                schema.MetadataAddBuffer(builder, contents[data])
                entries.append(schema.MetadataEnd(builder))
            metadata_vector = self.offsets(entries)
        schema.ModelStart(builder)
        schema.ModelAddVersion(builder, _SCHEMA_VERSION)
        schema.ModelAddOperatorCodes(builder, codes_vector)
        schema.ModelAddSubgraphs(builder, subgraphs_vector)
        schema.ModelAddBuffers(builder, buffers_vector)
        if metadata_vector:
            schema.ModelAddMetadata(builder, metadata_vector)
        builder.Finish(schema.ModelEnd(builder), file_identifier=_FILE_IDENTIFIER)
        return bytes(builder.Output())

    def tensor(self, tensor: Tensor, contents: dict[bytes, int]) -> int:
        builder = self.builder
        shape = self.vector(tensor.shape, "<i4") if tensor.shape else 0
        quantization = self.quantization(tensor)
        name = 0
        if tensor in self.graph.inputs or tensor in self.graph.outputs:
            name = self.once(("string", tensor.name), lambda: builder.CreateString(tensor.name))
        schema.TensorStart(builder)
        if shape:
            schema.TensorAddShape(builder, shape)
        schema.TensorAddType(builder, getattr(schema.TensorType, tensor.type_name))
        if tensor.data is not None:
            key = np.ascontiguousarray(tensor.data).tobytes()
            schema.TensorAddBuffer(builder, contents[key])
        if name:
            schema.TensorAddName(builder, name)
        if quantization:
            schema.TensorAddQuantization(builder, quantization)
        if tensor.is_variable:
            schema.TensorAddIsVariable(builder, True)
        return schema.TensorEnd(builder)

    def operator(self, op: Op, index_of: dict[int, int], codes: dict[tuple, int]) -> int:
        builder = self.builder
        inputs = self.vector([-1 if t is None else index_of[id(t)] for t in op.inputs], "<i4")
        outputs = self.vector([index_of[id(t)] for t in op.outputs], "<i4")
        intermediates = (
            self.vector([index_of[id(t)] for t in op.intermediates], "<i4")
            if op.intermediates
            else 0
        )
        packed = self.options(op)
        custom = 0
        if op.custom_options:
            custom = self.bytes_vector(op.custom_options, 4)
        schema.OperatorStart(builder)
        schema.OperatorAddOpcodeIndex(builder, codes[(op.kind, op.custom_code, op.version)])
        schema.OperatorAddInputs(builder, inputs)
        schema.OperatorAddOutputs(builder, outputs)
        if packed:
            name = type(op.options).__name__.removesuffix("T")
            schema.OperatorAddBuiltinOptionsType(builder, getattr(schema.BuiltinOptions, name))
            schema.OperatorAddBuiltinOptions(builder, packed)
        if custom:
            schema.OperatorAddCustomOptions(builder, custom)
        if intermediates:
            schema.OperatorAddIntermediates(builder, intermediates)
        return schema.OperatorEnd(builder)

    def operator_code(self, kind: str, custom_code: str, version: int) -> int:
        builder = self.builder
        name = builder.CreateString(custom_code) if custom_code else 0
        number = getattr(schema.BuiltinOperator, kind)
        schema.OperatorCodeStart(builder)
        # Readers older than the 32-bit field look at the 8-bit one; TFLM takes the larger.
        schema.OperatorCodeAddDeprecatedBuiltinCode(builder, min(number, 127))
        schema.OperatorCodeAddBuiltinCode(builder, number)
        if name:
            schema.OperatorCodeAddCustomCode(builder, name)
        schema.OperatorCodeAddVersion(builder, version)
        return schema.OperatorCodeEnd(builder)


def write(graph: Graph) -> bytes:
    """Writes `graph` as a `.tflite` with one subgraph.

    Raises:
      ValueError: The graph came from a file with several subgraphs, which would be lost.
    """
    if graph.other_subgraphs:
        raise ValueError("the graph has further subgraphs, which this writer would drop")
    return _Writer(graph).run()
