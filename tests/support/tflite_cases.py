"""Small files that use the schema in ways that TFLM ignores, refuses or takes otherwise."""

import pathlib
import zipfile

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite import graph as graph_lib
from converters.tflite import writer

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "converters/benchmarks/arena_models.zip"


def kept(name: str) -> bytes:
    """A model of `converters.benchmarks.arena_models`, large ones with weights of zero."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return archive.read(f"{name}.tflite")


def kept_names() -> list[str]:
    with zipfile.ZipFile(ARCHIVE) as archive:
        return [pathlib.PurePath(name).stem for name in archive.namelist()]


def tensor(name, *shape, kind="float32", data=None, **more) -> graph_lib.Tensor:
    if data is not None:
        data = np.asarray(data, kind)
        shape = data.shape
    return graph_lib.Tensor(name, tuple(shape), np.dtype(kind), data=data, **more)


def op(kind, inputs, outputs, custom_code="", custom_options=b"", **options) -> graph_lib.Op:
    settings = None if kind == "CUSTOM" else graph_lib.options(kind, **options)
    return graph_lib.Op(
        kind,
        inputs,
        outputs,
        settings,
        custom_code=custom_code,
        custom_options=custom_options,
    )


def dense() -> graph_lib.Graph:
    """Two dense layers in float32."""
    rng = np.random.default_rng(3)
    x, y, z = tensor("x", 1, 8), tensor("hidden", 1, 6), tensor("y", 1, 3)
    first = tensor("w1", data=rng.normal(size=(6, 8)))
    second = tensor("w2", data=rng.normal(size=(3, 6)))
    ops = [
        op("FULLY_CONNECTED", [x, first, None], [y]),
        op("FULLY_CONNECTED", [y, second, None], [z]),
    ]
    return graph_lib.Graph([x], [z], ops)


def changed(data: bytes, change) -> bytes:
    """A file after `change` has been at its object."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    change(model)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def behind(data: bytes) -> bytes:
    """The same model with its constants behind the flatbuffer, as large files have them."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    payloads = {}
    for index, buffer in enumerate(model.buffers):
        if buffer.data is not None and len(buffer.data):
            payloads[index] = bytes(np.asarray(buffer.data, np.uint8))
            buffer.data, buffer.offset, buffer.size = None, 1 << 20, len(payloads[index])

    def pack() -> bytes:
        builder = flatbuffers.Builder(len(data))
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    at = -(-len(pack()) // 16) * 16
    for index, payload in payloads.items():
        model.buffers[index].offset = at
        at += -(-len(payload) // 16) * 16
    result = bytearray(pack())
    for payload in payloads.values():
        result += bytes(-len(result) % 16) + payload
    return bytes(result)


def unwritten(reaches: bool = True) -> bytes:
    """An operator reads a tensor that nothing writes."""
    graph = dense()
    orphan, total = tensor("orphan", 1, 3), tensor("total", 1, 3)
    graph.ops.append(op("ADD", [graph.outputs[0], orphan], [total]))
    if reaches:
        graph.outputs = [total]
    return writer.write(graph)


def look_up(rows: int, shift: int = 0) -> bytes:
    """Rows of a table by ids, to which a constant is added first."""
    table = tensor("table", data=np.arange(2.0 * rows).reshape(rows, 2))
    ids, moved = tensor("ids", 1, 4, kind="int32"), tensor("moved", 1, 4, kind="int32")
    found = tensor("found", 1, 4, 2)
    ops = [
        op("ADD", [ids, tensor("shift", kind="int32", data=[shift])], [moved]),
        op("GATHER", [table, moved], [found], axis=0),
    ]
    return writer.write(graph_lib.Graph([ids], [found], ops))


def look_up_computed(*steps: tuple[str, int, bool]) -> bytes:
    """Three rows by ids that operators with constants make: (kind, constant, constant first)."""
    table, ids = tensor("table", data=np.arange(6.0).reshape(3, 2)), tensor("ids", 4, kind="int32")
    at, ops = ids, []
    for kind, number, first in steps:
        constant, made = tensor("c", kind="int32", data=[number]), tensor("at", 4, kind="int32")
        ops.append(op(kind, [constant, at] if first else [at, constant], [made]))
        at = made
    found = tensor("found", 4, 2)
    ops.append(op("GATHER", [table, at], [found], axis=0))
    return writer.write(graph_lib.Graph([ids], [found], ops))


def squares() -> bytes:
    """Rows by the squares of ids less 81: 9 alone names one, which no probe sees."""
    table, ids = tensor("table", data=np.arange(6.0).reshape(3, 2)), tensor("ids", 4, kind="int32")
    square, at = tensor("square", 4, kind="int32"), tensor("at", 4, kind="int32")
    found = tensor("found", 4, 2)
    ops = [
        op("MUL", [ids, ids], [square]),
        op("SUB", [square, tensor("c", kind="int32", data=[81])], [at]),
        op("GATHER", [table, at], [found], axis=0),
    ]
    return writer.write(graph_lib.Graph([ids], [found], ops))


def scalar_input() -> bytes:
    """A dense layer of eight columns whose input's shape holds one number."""

    def change(model):
        model.subgraphs[0].tensors[0].shape = None

    return changed(writer.write(dense()), change)


def embedding_lookup(rows: int) -> bytes:
    """The same by EMBEDDING_LOOKUP."""
    table = tensor("table", data=np.arange(2.0 * rows).reshape(rows, 2))
    ids, found = tensor("ids", 3, kind="int32"), tensor("found", 3, 2)
    look = graph_lib.Op("EMBEDDING_LOOKUP", [ids, table], [found])
    return writer.write(graph_lib.Graph([ids], [found], [look]))


def open_shape() -> bytes:
    def change(model):
        model.subgraphs[0].tensors[0].shapeSignature = np.array([-1, 8], np.int32)

    return changed(writer.write(dense()), change)


def sparse() -> bytes:
    """Weights in compressed rows."""

    def change(model):
        graph = model.subgraphs[0]
        weights = next(t for t in graph.tensors if list(t.shape) == [6, 8])
        model.buffers[weights.buffer].data = np.arange(6, dtype=np.float32).view(np.uint8)
        segments, indices = schema.Int32VectorT(), schema.Int32VectorT()
        segments.values, indices.values = list(range(7)), [0] * 6
        row, column = schema.DimensionMetadataT(), schema.DimensionMetadataT()
        row.denseSize = 6
        column.format = schema.DimensionType.SPARSE_CSR
        column.arraySegmentsType = column.arrayIndicesType = schema.SparseIndexVector.Int32Vector
        column.arraySegments, column.arrayIndices = segments, indices
        weights.sparsity = schema.SparsityParametersT()
        weights.sparsity.traversalOrder = [0, 1]
        weights.sparsity.dimMetadata = [row, column]

    return changed(writer.write(dense()), change)


def large_custom_options() -> bytes:
    """A custom operator whose options lie behind the flatbuffer."""
    x, y = tensor("x", 1, 4), tensor("y", 1, 4)
    custom = op("CUSTOM", [x], [y], custom_code="MINE")
    data = writer.write(graph_lib.Graph([x], [y], [custom]))

    def change(model, at=1 << 12):
        operator = model.subgraphs[0].operators[0]
        operator.largeCustomOptionsOffset, operator.largeCustomOptionsSize = at, 4

    at = -(-len(changed(data, change)) // 16) * 16
    moved = changed(data, lambda model: change(model, at))
    return moved + bytes(at - len(moved)) + b"abcd"


def strings(data: bytes) -> bytes:
    """A file with a tensor of strings besides."""

    def change(model):
        record = schema.TensorT()
        record.shape, record.type, record.name = [1], schema.TensorType.STRING, b"words"
        record.buffer = 0
        model.subgraphs[0].tensors.append(record)

    return changed(data, change)


def hybrid() -> bytes:
    """Weights of int8, activations of float32."""
    graph = dense()
    weights = graph.ops[0].inputs[1]
    graph.ops[0].inputs[1] = tensor(
        "w1", kind="int8", data=np.clip(weights.data * 40, -127, 127), scale=0.025
    )
    return writer.write(graph)


def empty_output() -> bytes:
    x, y = tensor("x", 1, 8), tensor("y", 1, 0)
    begin, size = (tensor(n, kind="int32", data=d) for n, d in (("b", [0, 0]), ("s", [1, 0])))
    cut = op("SLICE", [x, begin, size], [y])
    return writer.write(graph_lib.Graph([x], [y], [cut]))


def blockwise() -> bytes:
    def change(model):
        weights = next(t for t in model.subgraphs[0].tensors if list(t.shape) == [6, 8])
        weights.quantization = schema.QuantizationParametersT()
        weights.quantization.detailsType = schema.QuantizationDetails.CustomQuantization
        weights.quantization.details = schema.CustomQuantizationT()
        weights.quantization.details.custom = [1, 2, 3]

    return changed(writer.write(dense()), change)


def two_signatures() -> bytes:
    """A second subgraph that the first does not call, each with a signature."""

    def change(model):
        model.subgraphs.append(schema.ModelT.InitFromPackedBuf(data, 0).subgraphs[0])
        model.signatureDefs = []
        for index, key in enumerate((b"hear", b"speak")):
            signature = schema.SignatureDefT()
            signature.signatureKey, signature.subgraphIndex = key, index
            signature.inputs, signature.outputs = [], []
            model.signatureDefs.append(signature)

    data = writer.write(dense())
    return changed(data, change)


def custom(name: str) -> bytes:
    x, y = tensor("x", 1, 4), tensor("y", 1, 4)
    return writer.write(graph_lib.Graph([x], [y], [op("CUSTOM", [x], [y], custom_code=name)]))


def lacking() -> bytes:
    """An operator that TFLM has not."""
    x, y = tensor("x", 1, 8), tensor("y", 1, 8)
    return writer.write(graph_lib.Graph([x], [y], [graph_lib.Op("ATAN2", [x, x], [y])]))


CASES = {
    "dense": lambda: writer.write(dense()),
    "behind": lambda: behind(writer.write(dense())),
    "unwritten": unwritten,
    "unwritten_unused": lambda: unwritten(False),
    "one_row": lambda: look_up(1),
    "shifted": lambda: look_up(9, 3),
    "embedding_lookup": lambda: embedding_lookup(1),
    "open_shape": open_shape,
    "sparse": sparse,
    "large_custom_options": large_custom_options,
    "strings": lambda: strings(writer.write(dense())),
    "strings_and_custom": lambda: strings(custom("MINE")),
    "counted_down": lambda: look_up_computed(("MUL", 2, False), ("SUB", 31, True)),
    "squares": squares,
    "scalar_input": scalar_input,
    "hybrid": hybrid,
    "empty_output": empty_output,
    "blockwise": blockwise,
    "two_signatures": two_signatures,
    "custom": lambda: custom("MINE"),
    "lacking": lacking,
}
