"""Reads a `.tflite` into a `Graph`."""

import struct
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite import graph as graph_lib

_OPERATOR_NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}

_MOST_SUBGRAPHS = 1000


def is_tflite(data: bytes) -> bool:
    """Whether `data` carries the `.tflite` file identifier."""
    return len(data) >= 8 and data[4:8] == graph_lib.FILE_IDENTIFIER


def read(data: bytes, subgraph: int = 0) -> graph_lib.Graph:
    """Reads one subgraph of a `.tflite`.

    Time and memory stay in proportion to the file whatever it holds: offsets that lead nowhere,
    absurd lengths and tables that share one large name or vector are errors.

    Example:
    ```text
    graph = read(pathlib.Path("model.tflite").read_bytes())
    print([op.kind for op in graph.ops])
    ```

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


def read_all(data: bytes) -> list[graph_lib.Graph]:
    """Reads all subgraphs of a `.tflite`.

    Raises:
        FlatbufferError: As for `read`.
    """
    first = read(data)
    if first.other_subgraphs > _MOST_SUBGRAPHS:
        raise graph_lib.FlatbufferError(f"damaged .tflite: {first.other_subgraphs} subgraphs")
    return [first, *(read(data, 1 + i) for i in range(first.other_subgraphs))]


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
        self.tensors: list[graph_lib.Tensor] = []

    def count(self, length: int, what: str) -> range:
        """Range over the tables of a vector, if the file can hold that many."""
        self.tables_left -= length
        if length > len(self.data) // 4 or self.tables_left < 0:
            raise graph_lib.FlatbufferError(f"damaged .tflite: {length} {what}")
        return range(length)

    def spend(self, value: Any) -> Any:
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
        self.tensors = [
            self.tensor(index, subgraph.Tensors(index))
            for index in self.count(subgraph.TensorsLength(), "tensors")
        ]
        codes = self.operator_codes()
        return graph_lib.Graph(
            ops=[
                self.operator(index, subgraph.Operators(index), codes)
                for index in self.count(subgraph.OperatorsLength(), "operators")
            ],
            metadata=self.metadata(),
            inputs=self.chosen(subgraph.InputsAsNumpy(), "a graph input"),
            outputs=self.chosen(subgraph.OutputsAsNumpy(), "a graph output"),
            tensors=self.tensors,
            other_subgraphs=subgraphs - 1,
        )

    def pick(self, indices: Any) -> list[graph_lib.Tensor | None]:
        """Tensors by index; None for the index -1, an omitted input."""
        result: list[graph_lib.Tensor | None] = []
        # The generated code yields the number 0 for a vector that is absent.
        for index in [] if isinstance(indices, int) else self.spend(indices).tolist():
            if not -1 <= index < len(self.tensors):
                raise graph_lib.FlatbufferError(
                    f"damaged .tflite: tensor {index} of {len(self.tensors)}"
                )
            result.append(None if index < 0 else self.tensors[index])
        return result

    def chosen(self, indices: Any, what: str) -> list[graph_lib.Tensor]:
        """Tensors by index, none of them omitted."""
        picked = self.pick(indices)
        result = [tensor for tensor in picked if tensor is not None]
        if len(result) < len(picked):
            raise graph_lib.FlatbufferError(f"damaged .tflite: {what} without a tensor")
        return result

    def operator_codes(self) -> list[tuple[str, str, int]]:
        """(kind, name of a custom operator, version) of each operator code."""
        codes = []
        for index in self.count(self.model.OperatorCodesLength(), "operator codes"):
            code = self.model.OperatorCodes(index)
            builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            kind = _OPERATOR_NAMES.get(builtin, f"OPERATOR_{builtin}")
            codes.append((kind, self.text(code.CustomCode()), code.Version()))
        return codes

    def operator(
        self, index: int, record: schema.Operator, codes: list[tuple[str, str, int]]
    ) -> graph_lib.Op:
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
        return graph_lib.Op(
            kind=kind,
            inputs=self.pick(record.InputsAsNumpy()),
            outputs=self.chosen(record.OutputsAsNumpy(), f"operator {index}: an output"),
            options=settings,
            version=version,
            custom_code=custom_code,
            custom_options=b"" if isinstance(custom, int) else self.spend(custom).tobytes(),
            intermediates=self.chosen(
                record.IntermediatesAsNumpy(), f"operator {index}: an intermediate"
            ),
        )

    def metadata(self) -> dict[str, bytes]:
        result = {}
        for index in self.count(self.model.MetadataLength(), "metadata"):
            item = self.model.Metadata(index)
            result[self.text(item.Name())] = self.payload(item.Buffer()) or b""
        return result

    def tensor(self, index: int, record: Any) -> graph_lib.Tensor:
        dtype = graph_lib.DTYPES.get(record.Type())
        sizes = record.ShapeAsNumpy()
        shape = () if isinstance(sizes, int) else tuple(self.spend(sizes).tolist())
        if any(n < 0 for n in shape):
            raise graph_lib.FlatbufferError(
                f"tensor {index} has the shape {shape}, with a dimension that is not known; "
                "convert with fixed shapes"
            )
        tensor = graph_lib.Tensor(
            name=self.text(record.Name()) or f"#{index}",
            shape=shape,
            dtype=dtype,
            type_name=graph_lib.TYPE_NAMES.get(record.Type(), f"TYPE_{record.Type()}"),
            is_variable=record.IsVariable(),
        )
        self.quantize(tensor, record.Quantization())
        raw = self.payload(record.Buffer())
        if raw is None:
            return tensor
        if dtype is None or record.Sparsity() is not None:
            tensor.data = np.frombuffer(raw, np.uint8)
        elif len(raw) < tensor.nbytes:
            raise graph_lib.FlatbufferError(
                f"damaged .tflite: tensor {index} holds {len(raw)} bytes, "
                f"its shape {shape} needs {tensor.nbytes}"
            )
        else:
            # More than the shape needs is padding, to TFLM as to LiteRT; `survey` names it.
            tensor.data = np.frombuffer(raw[: tensor.nbytes], dtype).reshape(shape)
        return tensor

    @staticmethod
    def quantize(tensor: graph_lib.Tensor, record: Any) -> None:
        """Sets a tensor's scale, zero point and axis from its QuantizationParameters, if any."""
        if record is None or not record.ScaleLength():
            return
        scales, zeros = record.ScaleAsNumpy(), record.ZeroPointAsNumpy()
        zeros = np.zeros(1, np.int64) if isinstance(zeros, int) or not len(zeros) else zeros
        if len(scales) == 1:
            tensor.scale = float(scales[0])
            tensor.zero_point = int(zeros[0])
        else:
            tensor.scale = np.asarray(scales, np.float32)
            tensor.zero_point = zeros if len(zeros) > 1 else int(zeros[0])
            tensor.axis = record.QuantizedDimension()
