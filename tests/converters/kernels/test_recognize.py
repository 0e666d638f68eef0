"""The int8 model read back from a portable file: nothing lost, and nothing else accepted."""

import dataclasses

import numpy as np
import pytest

from converters.kernels import fused_graph, recognize, reference
from converters.tflite import graph as graph_lib
from converters.tflite import quantize, reader, writer
from embbert_tf.model.config import PRESETS
from embbert_tf.quantization import folding
from tests.support import portable_models as pm


@pytest.fixture(scope="module")
def built():
    return pm.build(pm.random_folded(pm.SMALL), 40)


@pytest.mark.parametrize(
    ("config", "length", "arguments"),
    [
        (pm.SMALL, 40, {}),
        (pm.SMALL, 64, {"groups": ((24,), (20, 20))}),
        (pm.WIDE, 47, {"pair": True, "offline": False}),
        (pm.WIDE, 31, {"per_channel": frozenset(["embed", "wq", "wz", "head"])}),
        (pm.ONE_LAYER, 1, {}),
        (pm.SMALL, 40, {"int16": pm.INT16}),
        (pm.SMALL, 64, {"groups": ((24,), (20, 20)), "int16": pm.INT16}),
        (pm.WIDE, 47, {"pair": True, "offline": False, "int16": frozenset(["attention"])}),
        (pm.WIDE, 31, {"int16": frozenset(["branch"])}),
        (pm.WIDE, 31, {"int16": frozenset(["norm"])}),
        (pm.ONE_LAYER, 1, {"int16": pm.INT16}),
    ],
    ids=[
        "small",
        "chunks",
        "pair",
        "per channel",
        "one layer, one token",
        "int16",
        "int16 in chunks",
        "int16 attention",
        "int16 branch",
        "int16 norm",
        "int16, one token",
    ],
)
def test_weights_and_scales_come_back(config, length, arguments):
    folded = pm.random_folded(config)
    built = pm.build(folded, length, **arguments)
    model = recognize.extract(pm.to_bytes(built))
    channel = arguments.get("per_channel", frozenset())

    def expected(name, values):
        return quantize.weights(values, 0 if name in channel else None)

    assert (model.vocab_size, model.r, model.d) == (
        config.vocab_size,
        config.reduced_size,
        config.hidden_size,
    )
    assert (model.max_length, model.labels) == (length, 5)
    assert model.pair == arguments.get("pair", False)
    np.testing.assert_array_equal(model.token, quantize.weights(folded.token, 1)[0])
    np.testing.assert_array_equal(model.position, quantize.weights(folded.position, 1)[0][:length])
    assert len(model.blocks) == config.num_layers
    for index, (block, source) in enumerate(zip(model.blocks, folded.blocks, strict=True)):
        last = index == config.num_layers - 1
        assert (block.d, block.e) == (config.hidden_size, config.expansion)
        for name, values in (("wq", source.wq.T), ("wz", source.wz.T)):
            weights, scale = expected(name, values)
            np.testing.assert_array_equal(getattr(block, name), weights)
            np.testing.assert_array_equal(getattr(block, f"{name}_scale"), scale)
        np.testing.assert_array_equal(block.wv, quantize.weights(source.wv.T)[0])
        conv, scale = quantize.weights(source.conv[-1:] if last else source.conv, 1)
        np.testing.assert_array_equal(block.conv, conv)
        np.testing.assert_array_equal(block.conv_scale, scale)
        real_bias = block.bz * block.s_scale * np.float64(block.wz_scale)
        np.testing.assert_allclose(real_bias, source.bz, atol=1e-3)
        if index:
            before = model.blocks[index - 1]
            assert (block.x_scale, block.x_zero) == (before.out_scale, before.out_zero)
    np.testing.assert_array_equal(model.head_w, expected("head", folded.head_w.T)[0])
    logits = built.graph.outputs[0]
    assert (model.logits_scale, model.logits_zero) == (logits.scale, logits.zero_point)


def test_segment_biases_are_those_of_the_segment_table():
    folded = pm.random_folded(pm.WIDE)
    model = recognize.extract(pm.to_bytes(pm.build(folded, 20, pair=True)))
    real = model.embed_bias * model.embed_in_scale * np.float64(model.embed_w_scale)
    np.testing.assert_allclose(real, folded.segment[1:], atol=0.02)


def test_every_activation_is_found_once_in_every_row():
    for config, length, arguments in (
        (pm.SMALL, 64, {"groups": ((24,), (20, 20))}),
        (pm.WIDE, 47, {"pair": True}),
    ):
        built = pm.build(pm.random_folded(config), length, **arguments)
        parts = recognize.activations(reader.read(pm.to_bytes(built)))
        assert set(parts) == set(folding.activation_names(config))
        last = str(config.num_layers - 1)
        final = {f"{kind}{last}" for kind in ("q", "scores", "c", "a", "y", "s", "z")}
        for name, found in parts.items():
            rows = [p.tensor.shape[-1] if p.transposed else (1, *p.tensor.shape)[-2] for p in found]
            one = name in final | {"logits", f"x{config.num_layers}"}
            assert sum(rows) == (1 if one else length), name
            starts = [0, *np.cumsum(rows)[:-1].tolist()]
            assert [p.row for p in found] == starts, name


def refuse(graph, message):
    with pytest.raises(recognize.NotEmbBertError, match=message):
        recognize.extract(writer.write(graph))


def copy(built):
    return reader.read(pm.to_bytes(built))


def test_an_operator_too_many_is_refused(built):
    graph = copy(built)
    out = graph.outputs[0]
    more = graph_lib.Tensor("more", out.shape, np.int8, 1 / 256, -128)
    graph.ops.append(
        graph_lib.Op("SOFTMAX", [out], [more], graph_lib.options("SOFTMAX", beta=1.0), 2)
    )
    graph.outputs = [more]
    refuse(graph, "head is not the graph's output")


def test_an_operator_on_the_side_is_refused(built):
    graph = copy(built)
    ids = graph.inputs[0]
    side = graph_lib.Tensor("side", ids.shape, np.int32)
    graph.ops.insert(1, graph_lib.Op("ABS", [ids], [side]))
    refuse(graph, r"an operator that EmbBERT does not have at operator 1 \(ABS\)")


def test_another_model_is_refused():
    x = graph_lib.Tensor("x", (1, 8), np.int8, 1.0)
    y = graph_lib.Tensor("y", (1, 8), np.int8, 1.0)
    refuse(graph_lib.Graph([x], [y], [graph_lib.Op("ABS", [x], [y])]), "token embedding: 0 GATHER")


def test_chunks_that_disagree_are_refused():
    graph = copy(pm.build(pm.random_folded(pm.SMALL), 40, groups=((20,), (20,))))
    queries = [op for op in graph.ops if op.kind == "DEPTHWISE_CONV_2D"]
    queries[1].outputs[0].scale *= 2
    refuse(graph, "layer 0: convolution is scaled differently between chunks")


def test_asymmetric_weights_are_refused(built):
    graph = copy(built)
    head = graph.ops[-1]
    head.inputs[1].zero_point = 3
    refuse(graph, "classifier head: weights are not symmetric int8")


def test_what_is_no_tflite_is_refused():
    with pytest.raises(graph_lib.FlatbufferError, match=r"not a \.tflite"):
        recognize.extract(b"nothing")


@pytest.mark.parametrize("part", [*sorted(pm.INT16), "all"])
def test_int16_leaves_the_kernels_as_they_are(part):
    """int8 tensors keep their scales, so that the fused file is the same to the byte."""
    folded = pm.random_folded(pm.SMALL)
    narrow = pm.to_bytes(pm.build(folded, 40))
    wide = pm.build(folded, 40, int16=pm.INT16 if part == "all" else frozenset([part]))
    assert fused_graph.fuse(pm.to_bytes(wide)) == fused_graph.fuse(narrow)


def test_int16_answers_as_the_kernels_do():
    """With all parts on int16, what is left is a rounding here and there."""
    folded = pm.random_folded(pm.SMALL, seed=2)
    sequences = pm.random_sequences(pm.SMALL, 40, count=24, seed=5)
    off = {}
    for int16 in (frozenset(), pm.INT16):
        tflite = pm.to_bytes(pm.build(folded, 40, int16=int16))
        kernels = reference.Reference(recognize.extract(tflite))
        wanted = np.array([kernels.infer(ids) for ids in sequences]).astype(float)
        off[int16] = np.std(pm.tflm_logits(tflite, sequences, 40) - wanted)
    assert off[pm.INT16] < 0.7 * off[frozenset()]


@pytest.mark.parametrize(
    "config",
    [pm.SMALL, pm.PADDED]
    + [
        pytest.param(
            dataclasses.replace(PRESETS[preset], vocab_size=300, max_length=40),
            marks=pytest.mark.slow,
        )
        for preset in ("nano", "tiny", "medium", "big")
    ],
    ids=["small", "padded", "nano", "tiny", "medium", "big"],
)
def test_tflm_answers_as_the_kernels(config):
    """As near for a hidden size of 20, which is no multiple of 16, and for the widest."""
    tflite = pm.to_bytes(pm.build(pm.random_folded(config), 40))
    sequences = pm.random_sequences(config, 40, count=8, seed=5)
    kernels = reference.Reference(recognize.extract(tflite))
    wanted = np.array([kernels.infer(ids) for ids in sequences]).astype(float)
    assert np.std(wanted) > 20
    assert np.std(pm.tflm_logits(tflite, sequences, 40) - wanted) < 4


def test_int16_parts_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"int16 parts .*; there are norm, attention, branch"):
        pm.build(pm.random_folded(pm.ONE_LAYER), 8, int16=frozenset(["norms"]))
