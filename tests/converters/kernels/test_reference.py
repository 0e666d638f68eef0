"""The kernels' arithmetic against real numbers: stated bounds over whole domains."""

import dataclasses

import numpy as np
import pytest

from converters.firmware import c_files
from converters.kernels import fixed_point, reference
from converters.kernels import params as params_lib
from converters.kernels.reference import Reference
from tests.support.kernel_harness import KERNELS
from tests.support.kernel_models import Shape, random_input, random_model


@pytest.mark.slow
def test_rsqrt_is_within_2_to_minus_26_over_its_whole_domain():
    # Sums of squares of up to 512 values of up to 255, in pieces; epsilon then adds at most 2^30.
    worst = 0.0
    top = 512 * 255**2
    for begin in range(1, top + 1, 1 << 22):
        v = np.arange(begin, min(begin + (1 << 22), top + 1), dtype=np.uint64)
        y, half = reference.rsqrt(v)
        exact = 1 / np.sqrt(v.astype(np.float64))
        worst = max(worst, np.abs(y * np.exp2(half - 46.0) / exact - 1).max())
    assert worst < 2**-26
    v = np.array([top, 2**30 - 1, 2**30, 2**31, 2**32 - 1], np.uint64)
    y, half = reference.rsqrt(v)
    assert np.abs(y * np.exp2(half - 46.0) * np.sqrt(v.astype(float)) - 1).max() < 2**-26


def test_softmax_weights_are_within_one_unit_over_their_whole_domain():
    below = np.arange(65536)
    scores = np.stack([np.full_like(below, 32767), 32767 - below], axis=1)
    weights = reference.weights_of(scores)
    exact = 32767 * np.exp2(-below / 256)
    assert (weights[:, 0] == 32767).all()
    assert np.abs(weights[:, 1] - exact).max() <= 1.0
    assert (np.diff(weights[:, 1]) <= 0).all()


def test_weights_of_many_keys_are_halved_and_sum_to_2_to_24_at_most():
    assert (reference.weights_of(np.zeros((1, 512), int)) == 32767).all()
    many = reference.weights_of(np.zeros((1, 1024), int))
    assert (many == 16384).all()
    for value in (-128, 127):  # The widest sums of the context, in 32 bits.
        acc = (value * many.sum(axis=1))[:, None]
        assert -(2**31) <= acc[0, 0] < 2**31
        assert abs(reference.divide_rows(acc, many.sum(axis=1))[0, 0] - 256 * value) <= 1


def test_mean_is_within_one_unit():
    rng = np.random.default_rng(0)
    total = np.concatenate([np.arange(32767, 40000), rng.integers(32767, 512 * 32767 + 1, 50000)])
    acc = np.stack([-128 * total, 127 * total, rng.integers(-128 * total, 127 * total + 1)], axis=1)
    got = reference.divide_rows(acc, total)
    assert np.abs(got - 256 * acc / total[:, None]).max() <= 1.0
    assert got.min() >= -32768 and got.max() <= 32767


@pytest.mark.parametrize("y_scale", [0.001, 0.02, 0.3])
@pytest.mark.parametrize("y_zero", [-128, -3, 127])
def test_silu_table_is_rounded_to_nearest(y_scale, y_zero):
    s_scale, s_zero = 3.3 / 255, -107
    table = fixed_point.silu_table(y_scale, y_zero, s_scale, s_zero)
    y = (np.arange(-128, 128) - y_zero) * y_scale
    exact = np.clip(y / (1 + np.exp(-y)) / s_scale + s_zero, -128, 127)
    assert np.abs(table - exact).max() <= 0.5 + 1e-9


def test_normalized_rows_are_within_one_step():
    model = random_model(Shape(), np.random.default_rng(1))
    block = model.blocks[0]
    params = params_lib.block_params(block)
    rng = np.random.default_rng(2)
    x = rng.integers(-128, 128, (400, 128)).astype(np.int8)
    x[1] = block.x_zero  # a zero row
    x[2], x[3] = -128, 127
    x[4] = block.x_zero
    x[4, 5] = block.x_zero + 1  # all of the row's energy in one element
    real = (x.astype(float) - block.x_zero) * block.x_scale
    exact = real / np.sqrt((real**2).mean(axis=1, keepdims=True) + 2.0**-23) / block.xhat_scale
    got = reference.normalize(params, x)
    assert np.abs(got - np.clip(exact, -128, 127)).max() < 0.501
    assert (got[1] == 0).all()


@pytest.mark.parametrize("real", [1e-6, 0.003, 0.49999, 0.5, 0.99999999, 1.0, 7.3])
def test_fixed_point_keeps_at_least_12_bits(real):
    shift, multiplier = fixed_point.fixed_point(real, 1000, "test")
    assert abs(int(multiplier) * 2.0**shift / 2**32 / real - 1) < 2**-12
    assert 0 <= int(multiplier) < 2**31


def dequantized_forward(model, ids, segments):
    """The same network in real numbers, weights as rounded, activations not."""
    inputs = np.concatenate([model.token[ids], model.position[: len(ids)]], axis=1)
    acc = inputs.astype(float) @ model.embed_w.T + model.embed_bias[segments - 1]
    x = acc * model.embed_in_scale * model.embed_w_scale
    for i, b in enumerate(model.blocks):
        rows = 1 if i == len(model.blocks) - 1 else len(ids)
        xhat = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 2.0**-23)
        q = xhat[:rows] @ b.wq.T * b.wq_scale + b.bq * b.xhat_scale * b.wq_scale
        scores = q @ xhat.T
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        a = (weights / weights.sum(axis=1, keepdims=True)) @ xhat @ b.wv.T * b.wv_scale
        y = np.zeros((rows, b.e * b.d)) + b.conv_bias * b.xhat_scale * b.conv_scale
        for back in range(min(len(b.conv), rows)):
            y[back:] += (
                np.repeat(xhat, b.e, axis=1)[: rows - back]
                * b.conv[len(b.conv) - 1 - back]
                * b.conv_scale
            )
        s = y / (1 + np.exp(-y))
        x = a + s @ b.wz.T * b.wz_scale + b.bz * b.s_scale * b.wz_scale
    return x[0] @ model.head_w.T * model.head_w_scale + model.head_bias * (
        model.blocks[-1].out_scale * model.head_w_scale
    )


@pytest.mark.parametrize("n", [1, 2, 13, 200])
def test_logits_follow_the_real_network(n):
    rng = np.random.default_rng(n)
    # One layer with ranges that hold every value, so that rounding alone separates the two.
    shape = Shape(blocks=1, last_taps=1)
    for _ in range(5):
        model = random_model(shape, rng)
        first = model.blocks[0]
        names = ["x", "q", "y", "s", "out"]
        wide = {f"{name}_scale": getattr(first, f"{name}_scale") * 4 for name in names}
        zeros = {f"{name}_zero": 0 for name in ["x", "q", "y", "out"]}
        block = dataclasses.replace(
            first, **wide, **zeros, s_zero=-110, conv_bias=first.conv_bias // 4
        )
        model = dataclasses.replace(
            model, blocks=(block,), head_bias=model.head_bias * 0, logits_scale=0.5
        )
        ids, segments = random_input(model, n, rng)
        got = (Reference(model).infer(ids, segments) - float(model.logits_zero)) * 0.5
        want = dequantized_forward(model, ids, segments)
        assert np.abs(got - want).max() < 0.15 * np.abs(want).max(), (got, want)


def test_first_row_alone_equals_first_row_of_all():
    rng = np.random.default_rng(3)
    model = random_model(Shape(last_taps=32), rng)
    ref = Reference(model)
    for n in (1, 5, 60):
        x = ref.embed(*random_input(model, n, rng))
        np.testing.assert_array_equal(ref.block(1, x, 1), ref.block(1, x)[:1])


def test_last_block_needs_its_last_tap_alone():
    rng = np.random.default_rng(4)
    model = random_model(Shape(last_taps=32), rng)
    short = dataclasses.replace(model.blocks[-1], conv=model.blocks[-1].conv[-1:])
    cut = dataclasses.replace(model, blocks=(*model.blocks[:-1], short))
    ids, segments = random_input(model, 40, rng)
    np.testing.assert_array_equal(
        Reference(model).infer(ids, segments), Reference(cut).infer(ids, segments)
    )


def test_impossible_inputs_are_refused():
    model = random_model(Shape(max_length=8), np.random.default_rng(0))
    ref = Reference(model)
    for ids, segments in (
        ([], []),
        ([1] * 9, None),
        ([300], None),
        ([1, 2], [1, 3]),
        ([1], [1, 1]),
    ):
        with pytest.raises(ValueError):
            ref.infer(ids, segments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wq_scale": np.linspace(0.1, 0.2, 128)}, "block 0: query weights: scales per channel"),
        ({"out_scale": 1e-9}, "block 0: attention output: factor"),
        ({"xhat_scale": 0.0}, "block 0: xhat_scale is 0"),
        ({"e": 9}, "block 0: E=9"),
        ({"bq": np.full(128, 2**31 - 1, np.int64)}, "block 0: query"),
    ],
)
def test_models_beyond_the_kernels_are_refused(change, message):
    model = random_model(Shape(), np.random.default_rng(0))
    blocks = (dataclasses.replace(model.blocks[0], **change), *model.blocks[1:])
    with pytest.raises(fixed_point.KernelParamsError, match=message):
        params_lib.model_params(dataclasses.replace(model, blocks=blocks))


def test_c_tables_are_up_to_date():
    assert (KERNELS / "embbert_tables.c").read_text(encoding="utf-8") == c_files.c_tables()
