"""Writes a `Graph` as a `.tflite`."""

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite import graph as graph_lib

_SCHEMA_VERSION = 3
_BUFFER_ALIGNMENT = 16  # force_align of Buffer.data in the schema


class _Writer:
    """Builds the file back to front, as flatbuffers do, storing equal things once."""

    def __init__(self, graph: graph_lib.Graph):
        self.graph = graph
        self.builder = flatbuffers.Builder(1 << 16)
        self.stored: dict[tuple, int] = {}

    def vector(self, values: Any, kind: str) -> int:
        array = np.ascontiguousarray(values, dtype=kind)
        return self.once(
            ("vector", kind, array.tobytes()), lambda: self.builder.CreateNumpyVector(array)
        )

    def once(self, key: tuple, build: Callable[[], int]) -> int:
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

    def quantization(self, tensor: graph_lib.Tensor) -> int:
        if tensor.scale is None:
            return 0
        scale = np.atleast_1d(np.asarray(tensor.scale, np.float32))
        zero = np.atleast_1d(np.asarray(tensor.zero_point, np.int64))
        # TFLM repeats a single zero point over the channels, but desktop TFLite refuses the file.
        zero = np.broadcast_to(zero, scale.shape)
        axis = tensor.axis if scale.size > 1 else 0

        def build() -> int:
            scale_vector = self.vector(scale, "<f4")
            zero_vector = self.vector(zero, "<i8")
            schema.QuantizationParametersStart(self.builder)
            schema.QuantizationParametersAddScale(self.builder, scale_vector)
            schema.QuantizationParametersAddZeroPoint(self.builder, zero_vector)
            schema.QuantizationParametersAddQuantizedDimension(self.builder, axis)
            return schema.QuantizationParametersEnd(self.builder)

        return self.once(("quantization", scale.tobytes(), zero.tobytes(), axis), build)

    def options(self, op: graph_lib.Op) -> int:
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
        # Constants first: they come to lie at the end of the file, largest alignment together.
        contents = self.contents(tensors)
        buffers = [self.buffer(data) for data in contents]
        schema.BufferStart(builder)
        buffers.insert(0, schema.BufferEnd(builder))
        buffers_vector = self.offsets(buffers)
        codes: dict[tuple, int] = {}
        for op in graph.ops:
            codes.setdefault((op.kind, op.custom_code, op.version), len(codes))
        subgraphs_vector = self.offsets([self.subgraph(tensors, contents, codes)])
        codes_vector = self.offsets([self.operator_code(*code) for code in codes])
        metadata_vector = self.metadata(contents)
        schema.ModelStart(builder)
        schema.ModelAddVersion(builder, _SCHEMA_VERSION)
        schema.ModelAddOperatorCodes(builder, codes_vector)
        schema.ModelAddSubgraphs(builder, subgraphs_vector)
        schema.ModelAddBuffers(builder, buffers_vector)
        if metadata_vector:
            schema.ModelAddMetadata(builder, metadata_vector)
        builder.Finish(schema.ModelEnd(builder), file_identifier=graph_lib.FILE_IDENTIFIER)
        return bytes(builder.Output())

    def contents(self, tensors: list[graph_lib.Tensor]) -> dict[bytes, int]:
        """Number of the buffer of each constant and each piece of metadata; 0 is the empty one."""
        result: dict[bytes, int] = {}
        for tensor in tensors:
            if tensor.data is not None:
                result.setdefault(np.ascontiguousarray(tensor.data).tobytes(), len(result) + 1)
        for data in self.graph.metadata.values():
            result.setdefault(data, len(result) + 1)
        return result

    def subgraph(
        self,
        tensors: list[graph_lib.Tensor],
        contents: dict[bytes, int],
        codes: dict[tuple, int],
    ) -> int:
        graph, builder = self.graph, self.builder
        index_of = {id(tensor): index for index, tensor in enumerate(tensors)}
        tensors_vector = self.offsets([self.tensor(tensor, contents) for tensor in tensors])
        operators_vector = self.offsets([self.operator(op, index_of, codes) for op in graph.ops])
        inputs = self.vector([index_of[id(t)] for t in graph.inputs], "<i4")
        outputs = self.vector([index_of[id(t)] for t in graph.outputs], "<i4")
        schema.SubGraphStart(builder)
        schema.SubGraphAddTensors(builder, tensors_vector)
        schema.SubGraphAddInputs(builder, inputs)
        schema.SubGraphAddOutputs(builder, outputs)
        schema.SubGraphAddOperators(builder, operators_vector)
        return schema.SubGraphEnd(builder)

    def metadata(self, contents: dict[bytes, int]) -> int:
        builder, entries = self.builder, []
        for name, data in self.graph.metadata.items():
            text = builder.CreateString(name)
            schema.MetadataStart(builder)
            schema.MetadataAddName(builder, text)
            schema.MetadataAddBuffer(builder, contents[data])
            entries.append(schema.MetadataEnd(builder))
        return self.offsets(entries) if entries else 0

    def tensor(self, tensor: graph_lib.Tensor, contents: dict[bytes, int]) -> int:
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

    def operator(self, op: graph_lib.Op, index_of: dict[int, int], codes: dict[tuple, int]) -> int:
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


def write(graph: graph_lib.Graph) -> bytes:
    """Writes `graph` as a `.tflite` with one subgraph.

    Example:
    ```text
    pathlib.Path("model.tflite").write_bytes(write(graph))
    ```

    Args:
        graph: Operators in the order in which they run; every tensor has a static shape.

    Raises:
        ValueError: The graph came from a file with several subgraphs, which would be lost.
    """
    if graph.other_subgraphs:
        raise ValueError("the graph has further subgraphs, which this writer would drop")
    return _Writer(graph).run()
