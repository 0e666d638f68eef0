"""Reads a `.tflite` into a `Graph`."""

import struct

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite import graph as graph_lib

_OPERATOR_NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}


def is_tflite(data: bytes) -> bool:
    """Whether `data` carries the `.tflite` file identifier."""
    return len(data) >= 8 and data[4:8] == graph_lib.FILE_IDENTIFIER


def read(data: bytes, subgraph: int = 0) -> graph_lib.Graph:
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
        raise graph_lib.FlatbufferError(
            "not a .tflite: the file identifier 'TFL3' is missing at byte 4"
        )
    try:
        return _Reader(data).graph(subgraph)
    except graph_lib.FlatbufferError:
        raise
    except struct.error as error:
        raise graph_lib.FlatbufferError(
            "damaged .tflite: an offset leads outside the file"
        ) from error
    except (
        IndexError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise graph_lib.FlatbufferError(f"damaged .tflite: {error}") from error


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
            raise graph_lib.FlatbufferError(f"damaged .tflite: {length} {what}")
        return range(length)

    def spend(self, value):
        """Accounts for a string or vector, which several tables may share."""
        self.elements_left -= len(value)
        if self.elements_left < 0:
            raise graph_lib.FlatbufferError("damaged .tflite: its parts overlap")
        return value

    def text(self, value: bytes | None) -> str:
        return self.spend(value or b"").decode("utf-8", "replace")

    def payload(self, index: int) -> bytes | None:
        if index not in self.payloads:
            if not 0 <= index < self.model.BuffersLength():
                raise graph_lib.FlatbufferError(
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
                    raise graph_lib.FlatbufferError(
                        f"damaged .tflite: buffer {index} ends outside the file"
                    )
            self.payloads[index] = raw
        return self.payloads[index]

    def graph(self, number: int) -> graph_lib.Graph:
        model = self.model
        subgraphs = len(self.count(model.SubgraphsLength(), "subgraphs"))
        if not subgraphs:
            raise graph_lib.FlatbufferError("damaged .tflite: no subgraph")
        if not 0 <= number < subgraphs:
            raise graph_lib.FlatbufferError(f"damaged .tflite: subgraph {number} of {subgraphs}")
        subgraph = model.Subgraphs(number)
        self.count(model.BuffersLength(), "buffers")
        tensors = [
            self.tensor(index, subgraph.Tensors(index))
            for index in self.count(subgraph.TensorsLength(), "tensors")
        ]

        def pick(indices) -> list[graph_lib.Tensor | None]:
            # The generated code yields the number 0 for a vector that is absent.
            result = []
            for index in [] if isinstance(indices, int) else self.spend(indices).tolist():
                if not -1 <= index < len(tensors):
                    raise graph_lib.FlatbufferError(
                        f"damaged .tflite: tensor {index} of {len(tensors)}"
                    )
                result.append(None if index < 0 else tensors[index])
            return result

        def chosen(indices, what: str) -> list[graph_lib.Tensor]:
            result = pick(indices)
            if None in result:
                raise graph_lib.FlatbufferError(f"damaged .tflite: {what} without a tensor")
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
                raise graph_lib.FlatbufferError(
                    f"damaged .tflite: operator code {record.OpcodeIndex()}"
                )
            kind, custom_code, version = codes[record.OpcodeIndex()]
            table = record.BuiltinOptions()
            settings = None
            if table is not None:
                settings = schema.BuiltinOptionsCreator(record.BuiltinOptionsType(), table)
            custom = record.CustomOptionsAsNumpy()
            ops.append(
                graph_lib.Op(
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
        return graph_lib.Graph(
            inputs=chosen(subgraph.InputsAsNumpy(), "a graph input"),
            outputs=chosen(subgraph.OutputsAsNumpy(), "a graph output"),
            ops=ops,
            tensors=tensors,
            metadata=metadata,
            other_subgraphs=subgraphs - 1,
        )

    def tensor(self, index: int, record) -> graph_lib.Tensor:
        dtype = graph_lib.DTYPES.get(record.Type())
        sizes = record.ShapeAsNumpy()
        shape = () if isinstance(sizes, int) else tuple(self.spend(sizes).tolist())
        if any(n < 0 for n in shape):
            raise graph_lib.FlatbufferError(f"damaged .tflite: tensor {index} has shape {shape}")
        tensor = graph_lib.Tensor(
            name=self.text(record.Name()) or f"#{index}",
            shape=shape,
            dtype=dtype,
            type_name=graph_lib.TYPE_NAMES.get(record.Type(), f"TYPE_{record.Type()}"),
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
                raise graph_lib.FlatbufferError(
                    f"damaged .tflite: tensor {index} holds {len(raw)} bytes, "
                    f"its shape {shape} needs {tensor.nbytes}"
                )
            else:
                tensor.data = np.frombuffer(raw, dtype).reshape(shape)
        return tensor
