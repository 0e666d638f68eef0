"""The `.tflite` reader and writer: nothing is lost, and no file harms the reader."""

import os
import random
import resource
import time

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from converters.report import arena_map
from converters.tflite import graph as graph_lib
from converters.tflite import reader, writer
from converters.tflite.graph import Graph, Op, Tensor
from converters.tflm import timeline
from tests.support import portable_models as pm


@pytest.fixture(scope="module")
def portable():
    return pm.to_bytes(pm.build(pm.random_folded(pm.SMALL), 24))


def verifier_says(data: bytes) -> str:
    """What the TFLite schema's verifier and then LiteRT's loader object to; "" if nothing."""
    try:
        litert.Interpreter(
            model_content=data, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
        )
    except ValueError as error:
        return str(error)
    return ""


def every_feature() -> Graph:
    """A graph with each thing that the writer stores in its own way."""
    x = Tensor("x", (2, 4), np.int8, 0.5, -3)
    weights = Tensor(
        "w",
        (3, 4),
        np.int8,
        np.array([0.1, 0.2, 0.3], np.float32),
        axis=0,
        data=np.arange(12, dtype=np.int8).reshape(3, 4),
    )
    same = Tensor("w2", (12,), np.int8, 0.25, data=np.arange(12, dtype=np.int8))
    y = Tensor("y", (2, 3), np.int8, 0.125, 7)
    state = Tensor("state", (2, 3), np.int8, 0.125, 7, is_variable=True)
    z = Tensor("z", (2, 3), np.int16, 0.0625)
    scalar = Tensor("scalar", (), np.int32, data=np.array(-5, np.int32))
    dense = graph_lib.options("FULLY_CONNECTED", keepNumDims=True)
    ops = [
        Op("FULLY_CONNECTED", [x, weights, None], [y], dense, version=5),
        Op(
            "CUSTOM",
            [y, same, scalar, state],
            [z],
            custom_code="Own",
            custom_options=b"\x01\x02\x03",
            intermediates=[Tensor("i", (0,), np.int8)],
        ),
    ]
    return Graph([x], [z], ops, metadata={"note": b"\x00\x01hello"})


def assert_same(one: Graph, other: Graph):
    def facts(tensor):
        if tensor is None:
            return None
        data = None if tensor.data is None else (tensor.data.dtype, tensor.data.tolist())
        return (
            tensor.shape,
            tensor.type_name,
            tensor.is_variable,
            np.asarray(tensor.scale if tensor.scale is not None else 0, np.float32).tolist(),
            np.max(np.asarray(tensor.zero_point)) if tensor.scale is not None else 0,
            data,
        )

    assert one.metadata == other.metadata
    assert [t.name for t in one.inputs + one.outputs] == [
        t.name for t in other.inputs + other.outputs
    ]
    assert len(one.ops) == len(other.ops)
    for a, b in zip(one.ops, other.ops, strict=True):
        assert (a.kind, a.version, a.custom_code, a.custom_options) == (
            b.kind,
            b.version,
            b.custom_code,
            b.custom_options,
        )
        assert [facts(t) for t in a.inputs + a.outputs + a.intermediates] == [
            facts(t) for t in b.inputs + b.outputs + b.intermediates
        ]
        if a.options is not None:
            assert vars(a.options) == vars(b.options)


def test_a_graph_survives_writing_and_reading():
    graph = every_feature()
    assert_same(graph, reader.read(writer.write(graph)))


def test_equal_constants_are_stored_once():
    graph = every_feature()
    before = len(writer.write(graph))
    big = np.arange(5000, dtype=np.int32)
    graph.ops[1].inputs += [Tensor("a", (5000,), np.int32, data=big)]
    one = len(writer.write(graph))
    graph.ops[1].inputs += [Tensor("b", (50, 100), np.int32, data=big.reshape(50, 100))]
    assert one - before > 20000
    assert len(writer.write(graph)) - one < 200


def test_rewriting_a_portable_file_changes_nothing(portable):
    assert writer.write(reader.read(portable)) == portable


def test_the_schema_verifier_and_desktop_tflite_take_the_file(portable):
    assert verifier_says(portable) == ""
    assert "not a valid Flatbuffer" in verifier_says(portable[: len(portable) // 2])


def test_desktop_tflite_runs_the_file(portable):
    """Not TFLM's numbers to the bit, but the same model."""
    desktop = litert.Interpreter(
        model_content=portable, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
    )
    desktop.allocate_tensors()
    sequences = pm.random_sequences(pm.SMALL, 24, count=6)
    ours = pm.tflm_logits(portable, sequences, 24)
    for ids, logits in zip(sequences, ours, strict=True):
        array = np.zeros((1, 24), np.int32)
        array[0, : len(ids)] = ids
        desktop.set_tensor(desktop.get_input_details()[0]["index"], array)
        desktop.invoke()
        other = desktop.get_tensor(desktop.get_output_details()[0]["index"]).reshape(-1)
        assert np.abs(logits.astype(int) - other.astype(int)).max() <= 24


def test_only_inputs_and_outputs_keep_names(portable):
    names = {t.name for t in reader.read(portable).tensors if not t.name.startswith("#")}
    assert names == {"ids", "logits"}


def test_ballast_is_small(portable):
    graph = reader.read(portable)
    constants = {t.data.tobytes() for t in graph.tensors if t.data is not None}
    ballast = len(portable) - sum(map(len, constants))
    assert ballast < 150 * (len(graph.ops) + len(constants))


def test_several_subgraphs_are_not_dropped_silently():
    graph = every_feature()
    graph.other_subgraphs = 1
    with pytest.raises(ValueError, match="further subgraphs"):
        writer.write(graph)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a .tflite"),
        (b"hello, I am a text", "not a .tflite"),
        (b"\x1c\x00\x00\x00TFL3", "damaged"),
        (b"\xff\xff\xff\xffTFL3" + bytes(64), "damaged"),
        (b"\x08\x00\x00\x00TFL3" + b"\xff" * 64, "damaged"),
    ],
)
def test_what_is_no_tflite_is_refused(data, message):
    with pytest.raises(graph_lib.FlatbufferError, match=message):
        reader.read(data)


def test_every_truncation_is_refused(portable):
    for length in [*range(0, 200), *range(200, len(portable) - 64, 997)]:
        with pytest.raises(graph_lib.FlatbufferError):
            reader.read(portable[:length])


def mutations(data: bytes, seed: int):
    """Endless damaged copies: cut, bits flipped, absurd offsets and lengths, noise."""
    rng = random.Random(seed)
    absurd = [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x00\x00\x00\x10"]
    while True:
        copy = bytearray(data)
        kind = rng.randrange(4)
        if kind == 0:
            copy = copy[: rng.randrange(len(copy))]
        elif kind == 1:
            for _ in range(rng.choice([1, 3, 20])):
                copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            for _ in range(rng.choice([1, 2, 8])):
                reach = rng.choice([64, 4000, len(copy)])
                at = rng.randrange(0, min(len(copy), reach) - 4) & ~3
                copy[at : at + 4] = rng.choice(absurd)
        else:
            at = rng.randrange(len(copy) - 64)
            copy[at : at + 64] = rng.randbytes(64)
        yield bytes(copy)


@pytest.mark.slow
def test_damaged_files_are_read_or_refused_and_never_worse(portable):
    """FUZZ_SECONDS=600 fuzzes longer."""
    end = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "4"))
    refused = read = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for copy in mutations(portable, seed=1):
        if read + refused >= 200 and time.monotonic() > end:
            break
        start = time.process_time()
        try:
            arena_map.build(reader.read_all(copy))
            read += 1
        except (graph_lib.FlatbufferError, timeline.ArenaError):
            refused += 1
        assert time.process_time() - start < 10
    assert read > 20
    assert refused > 20
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 << 10, f"{grown} KiB more memory"


def overlapping(tables: int, name: int, shape: int) -> bytes:
    """A file of `tables` tensors that are all one and the same table."""
    builder = flatbuffers.Builder(1 << 20)
    text = builder.CreateString("n" * name)
    sizes = builder.CreateNumpyVector(np.ones(shape, np.int32))
    schema.TensorStart(builder)
    schema.TensorAddName(builder, text)
    schema.TensorAddShape(builder, sizes)
    tensor = schema.TensorEnd(builder)
    builder.StartVector(4, tables, 4)
    for _ in range(tables):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    subgraph = schema.SubGraphEnd(builder)
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(subgraph)
    subgraphs = builder.EndVector()
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, subgraphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("tables", "name", "shape"), [(20_000, 100_000, 1), (20_000, 1, 100_000), (300_000, 1, 1)]
)
def test_tables_that_share_a_large_part_do_not_multiply_it(tables, name, shape):
    data = overlapping(tables, name, shape)
    assert "not a valid Flatbuffer" not in verifier_says(overlapping(3, name, shape))
    start = time.process_time()
    with pytest.raises(graph_lib.FlatbufferError, match="damaged"):
        reader.read(data)
    assert time.process_time() - start < 5


def test_sizes_beyond_64_bits_do_not_wrap():
    x = Tensor("x", (2**31 - 1,) * 4, np.int8)
    graph = Graph([x], [x], [])
    tensor = reader.read(writer.write(graph)).tensors[0]
    assert tensor.nbytes == (2**31 - 1) ** 4
    assert arena_map.build([reader.read(writer.write(graph))]).head_bytes >= tensor.nbytes
