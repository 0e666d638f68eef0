"""Weights of few bits: found, packed, and the same in every form."""

import dataclasses

import numpy as np
import pytest

from converters.kernels import fused_graph, packing, params, recognize, reference
from converters.tflite import writer
from tests.support import kernel_models
from tests.support import portable_models as pm


def test_every_code_of_a_row_comes_back():
    rng = np.random.default_rng(0)
    for rows, count in ((1, 8), (2, 16), (5, 24), (128, 128)):
        codes = rng.integers(-7, 8, (rows, count)).astype(np.int8)
        packed = packing.pack_rows(codes)
        assert (packed.dtype, packed.shape) == (np.int8, ((rows + 1) // 2, count))
        np.testing.assert_array_equal(packing.unpack_rows(packed, rows), codes)


def test_every_pair_of_codes_comes_back():
    codes = np.stack(np.meshgrid(np.arange(-7, 8), np.arange(-7, 8))).reshape(2, -1)
    packed = packing.pack_rows(codes.astype(np.int8))
    np.testing.assert_array_equal(packing.unpack_rows(packed, 2), codes)


def test_the_layout_of_two_rows():
    codes = np.array([[1, 2, -1, -7], [3, -2, 4, -7], [5, 0, -5, 7]], np.int8)
    assert packing.pack_rows(codes).tolist() == [[49, -30, 63, -119], [5, 0, -5, 7]]


@pytest.mark.parametrize("bits", packing.TOKEN_BITS)
@pytest.mark.parametrize("columns", [4, 12, 16, 32])
def test_every_code_of_a_table_comes_back(bits, columns):
    half = 1 << bits - 1
    codes = np.random.default_rng(bits).integers(-half, half, (40, columns)).astype(np.int8)
    packed = packing.pack_table(codes, bits)
    assert packed.shape == (40, packing.row_bytes(columns, bits))
    np.testing.assert_array_equal(packing.unpack_table(packed, columns, bits), codes)


def test_the_layout_of_a_table():
    packed = packing.pack_table(np.array([[1, -1, 2, -4]], np.int8), 3)
    assert packed.view(np.uint8).tolist() == [[0b10111001, 0b1000]]


def test_a_matrix_is_its_factors_times_its_codes():
    rng = np.random.default_rng(1)
    codes = rng.integers(-7, 8, (18, 32))
    codes[:, 0] = 7
    factors = np.arange(1, 19)
    weights = (codes * factors[:, np.newaxis]).astype(np.int8)
    found = packing.coded(weights)
    np.testing.assert_array_equal(found.factors, factors)
    np.testing.assert_array_equal(found.codes, codes)
    np.testing.assert_array_equal(found.weights(), weights)
    table, factor, bits = packing.coded_table(weights[17:])
    assert (factor, bits) == (18, 4)
    np.testing.assert_array_equal(table, codes[17:])


@pytest.mark.parametrize("value", [0, 1, 5, 21, 36, 126])
def test_rows_of_one_value_have_codes_too(value):
    weights = np.full((2, 32), value, np.int8)
    found = packing.coded(weights)
    assert 1 <= found.factors.min() <= found.factors.max() <= packing.MOST_FACTOR
    np.testing.assert_array_equal(found.weights(), weights)


@pytest.mark.parametrize(
    "weights", [[[8, 1]], [[19, 19]], [[127, 127]], [[-8, 7]], [[126, 17]], [[-128, 0]]]
)
def test_what_has_no_codes_stays_int8(weights):
    assert packing.coded(np.tile(np.array(weights, np.int8), 16)) is None


def test_a_table_takes_the_fewest_bits():
    for codes, bits in (([-2, 1], 2), ([-3, 1], 3), ([-4, 3], 3), ([-8, 5], 4)):
        assert packing.coded_table(np.array([codes], np.int8) * np.int8(7))[1:] == (7, bits)
    assert packing.coded_table(np.array([[-9, 4]], np.int8)) is None


def test_blobs_and_fused_graph_hold_the_codes():
    """Half the bytes; what is read back is the model that came in."""
    folded = pm.coded_folded(pm.SMALL)
    portable = writer.write(pm.build(folded, 40).graph)
    wanted = params.model_params(recognize.extract(portable))
    d, r = wanted.embed.hidden, wanted.embed.reduced
    assert wanted.embed.options()[:4] == b"EMB3"
    assert wanted.embed.tensors()["token"].shape == (300, r // 2)
    assert wanted.embed.tensors()["weight"].shape == (d // 2, 2 * r)
    for block in wanted.blocks:
        assert block.options()[:4] == b"BLK3"
        shapes = [block.tensors()[name].shape for name in ("wq", "wv", "wz")]
        assert shapes == [(d // 2, d)] * 3
        assert block.tensors()["conv"].shape == block.conv.shape
    assert wanted.head.options()[:4] == b"HED3"
    fused = fused_graph.fuse(portable)
    assert len(fused) < 0.75 * len(
        fused_graph.fuse(pm.to_bytes(pm.build(pm.random_folded(pm.SMALL), 40)))
    )
    found = fused_graph.read_params(fused)
    for left, right in zip(
        (wanted.embed, *wanted.blocks, wanted.head),
        (found.embed, *found.blocks, found.head),
        strict=True,
    ):
        for field in dataclasses.fields(left):
            np.testing.assert_array_equal(
                getattr(left, field.name), getattr(right, field.name), err_msg=field.name
            )


def test_one_int8_matrix_keeps_its_layer_int8():
    rng = np.random.default_rng(0)
    model = kernel_models.random_model(kernel_models.Shape(d=32, r=16), rng)
    small = kernel_models.coded(model, rng)
    first = dataclasses.replace(small.blocks[0], wz=model.blocks[0].wz)
    mixed = params.model_params(
        dataclasses.replace(small, blocks=(first, *small.blocks[1:]), embed_w=model.embed_w)
    )
    assert [part.options()[:4] for part in (mixed.embed, *mixed.blocks, mixed.head)] == [
        b"EMB3", b"BLK1", b"BLK3", b"HED3"
    ]  # fmt: skip


@pytest.mark.parametrize("pair", [False, True])
def test_the_portable_graph_computes_with_the_same_weights(pair):
    folded = pm.coded_folded(pm.WIDE)
    built = pm.build(folded, 20, pair=pair)
    tflite = pm.to_bytes(built)
    model = recognize.extract(tflite)
    for name, weights in (("wq0", model.blocks[0].wq), ("wv1", model.blocks[1].wv)):
        want = getattr(folded.blocks[int(name[-1])], name[:-1]).T / folded.scales[name]
        np.testing.assert_allclose(weights, want, atol=1e-3)
    real = model.embed_bias * model.embed_in_scale * np.float64(model.embed_w_scale)
    # The step of a bias, not of a weight of 4 bits, in both segments.
    step = model.embed_in_scale * np.max(model.embed_w_scale)
    np.testing.assert_allclose(real, folded.segment[[1, 2 if pair else 1]], atol=step)
    sequences = pm.random_sequences(pm.WIDE, 20, pair=pair)
    got = pm.tflm_logits(tflite, sequences, 20, pair).astype(int)
    kernels = reference.Reference(model)
    want = np.array(
        [kernels.infer(ids, np.where(np.cumsum(np.array(ids) == 4) > 0, 2, 1)) for ids in sequences]
    )
    assert np.abs(got - want).mean() < 4
