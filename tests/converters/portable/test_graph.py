"""Scales and zero points at their edges; calibration ranges; the choice of samples."""

import collections
import dataclasses

import numpy as np
import pytest

from calibration import recipes, samples
from converters.tflite import checks, quantize, reader
from converters.tflite.graph import Graph, Op, Tensor
from embbert_tf.data.examples import Example
from embbert_tf.quantization import folding, ranges
from tests.support import portable_models as pm


@pytest.mark.parametrize(
    ("low", "high"),
    [(-1.0, 1.0), (0.0, 6.0), (-3.0, 0.0), (2.0, 5.0), (-5.0, -2.0), (-1e-30, 1e-30), (-1e6, 1e6)],
)
def test_activation_ranges_hold_zero_exactly_and_cover_their_values(low, high):
    for symmetric in (False, True):
        q = quantize.activation(low, high, symmetric)
        assert -128 <= q.zero_point <= 127
        assert q.quantize(np.zeros(1))[0] == q.zero_point
        if symmetric:
            assert q.zero_point == 0
        for value in (low, high):
            error = (int(q.quantize(np.array([value]))[0]) - q.zero_point) * q.scale - value
            assert abs(error) <= 1.01 * q.scale


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, -1.0), (np.nan, 1.0), (0.0, np.inf), (-np.inf, 0.0), (0.0, np.nan)]
)
def test_impossible_ranges_are_refused(low, high):
    with pytest.raises(quantize.RangeError, match="no finite range"):
        quantize.activation(low, high)


def test_constant_zero_activation_has_a_usable_scale():
    q = quantize.activation(0.0, 0.0)
    assert q.scale > 0
    assert q.quantize(np.array([0.0, 1.0, -1.0])).tolist() == [q.zero_point, 127, -128]


def test_values_outside_saturate():
    q = quantize.activation(-1.0, 1.0)
    assert q.quantize(np.array([-9.0, 9.0, 1e30])).tolist() == [-128, 127, 127]


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_weights_stay_within_half_a_step(axis):
    values = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    quantized, scale = quantize.weights(values, axis)
    assert quantized.dtype == np.int8
    assert np.abs(quantized.astype(int)).max() == 127
    shape = [1, 1]
    if axis is not None:
        shape[axis] = -1
        assert scale.shape == (values.shape[axis],)
        per_channel = np.abs(quantized.astype(int)).max(axis=1 - axis % 2)
        assert per_channel.tolist() == [127] * values.shape[axis]
    step = np.reshape(scale, shape)
    assert np.all(np.abs(quantized * step - values) <= 0.5001 * step)


def test_weights_of_nothing_but_zeros_are_zeros():
    values = np.zeros((2, 3), np.float32)
    values[1] = [1, -2, 0.5]
    for axis in (None, 0):
        quantized, scale = quantize.weights(values, axis)
        assert not quantized[0].any()
        assert np.all(np.asarray(scale) > 0)
    assert not quantize.weights(np.zeros((2, 2), np.float32))[0].any()


def test_biases_saturate_instead_of_wrapping():
    assert quantize.bias(np.array([1e30, -1e30, 2.6]), 1.0).tolist() == [2**31 - 1, 1 - 2**31, 3]


def examples(counts: dict[str, int]) -> list[Example]:
    return [Example(f"text {i}", None, label) for label, n in counts.items() for i in range(n)]


def test_samples_take_every_class_and_every_length():
    data = examples({"often": 900, "seldom": 90, "once": 1})
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 60, len(data)).tolist()
    chosen = samples.pick(data, lengths, 60, seed=1)
    assert len(set(chosen)) == len(chosen) == 60
    classes = collections.Counter(data[i].label for i in chosen)
    assert classes["once"] == 1
    assert abs(classes["often"] - classes["seldom"]) <= 4
    for label in ("often", "seldom"):
        mine = sorted(lengths[i] for i, e in enumerate(data) if e.label == label)
        quarters = np.quantile(mine, [0.25, 0.5, 0.75])
        bands = np.searchsorted(quarters, [lengths[i] for i in chosen if data[i].label == label])
        assert min(collections.Counter(bands.tolist()).values()) >= 3
        assert len(set(bands.tolist())) == 4


def test_few_samples_still_see_every_class():
    data = examples({"a": 50, "b": 50, "c": 50, "d": 50, "e": 50})
    lengths = list(range(len(data)))
    assert {data[i].label for i in samples.pick(data, lengths, 5, 0)} == set("abcde")


def test_samples_are_seeded_and_never_more_than_there_are():
    data = examples({"a": 30, "b": 30})
    lengths = [5] * 60
    assert samples.pick(data, lengths, 20, 7) == samples.pick(data, lengths, 20, 7)
    assert samples.pick(data, lengths, 20, 7) != samples.pick(data, lengths, 20, 8)
    assert sorted(samples.pick(data, lengths, 1000, 0)) == list(range(60))
    assert samples.pick([], [], 3, 0) == []


def test_impossible_samples_are_refused():
    data = examples({"a": 3})
    with pytest.raises(ValueError, match="at least 1, not 0"):
        samples.pick(data, [1, 2, 3], 0, 0)
    with pytest.raises(ValueError, match="2 lengths for 3 examples"):
        samples.pick(data, [1, 2], 1, 0)


@pytest.fixture(scope="module")
def meter():
    folded = pm.random_folded(pm.SMALL)
    meter = ranges.RangeMeter(folded)
    for ids in pm.random_sequences(pm.SMALL, 40):
        meter.run(ids)
    return meter


def test_every_recipe_has_a_range_for_every_activation(meter):
    names = set(folding.activation_names(pm.SMALL))
    for recipe in recipes.RECIPES.values():
        if recipe.ranges == "qat":
            continue
        found = meter.ranges(recipe.ranges)
        assert set(found) == names
        widest = meter.ranges("minmax")
        for name, (low, high) in found.items():
            assert np.isfinite([low, high]).all()
            assert low <= high
            if not name.startswith(("xhat", "v")):
                assert low >= min(widest[name][0], 0) - 1e-6
                assert high <= max(widest[name][1], 0) + 1e-6
            quantize.activation(low, high)


def test_mse_ranges_beat_minmax_on_their_own_measure(meter):
    """By values with outliers: a shrunken range has less mean squared error."""
    values = np.random.default_rng(0).normal(size=20000)
    values[:3] = [40, -35, 30]
    low, high = ranges._mse_range(values, float(values.min()), float(values.max()), False)
    assert high < 40

    def error(low, high):
        q = quantize.activation(low, high)
        return np.mean(((q.quantize(values).astype(float) - q.zero_point) * q.scale - values) ** 2)

    assert error(low, high) < error(values.min(), values.max())


@pytest.mark.parametrize("channels", [128, 96, 7])
def test_one_loud_channel_is_not_overlooked(channels):
    """Thinning must not keep to some channels: channel 1 alone is ten times as loud."""
    rng = np.random.default_rng(0)
    collector = ranges._Collector()
    for _ in range(60):
        rows = rng.normal(size=(64, channels)).astype(np.float32)
        rows[:, 1] *= 10
        collector.add(rows)
    values = np.concatenate(collector.values)
    assert 1000 < values.size <= ranges._KEPT
    assert np.mean(np.abs(values) > 6) == pytest.approx(0.5485 / channels, rel=0.25)
    low, high = ranges._mse_range(values, float(collector.low), float(collector.high), False)
    assert high > 15
    assert low < -15


def test_unknown_ways_to_find_ranges_are_refused(meter):
    with pytest.raises(ValueError, match="no range method 'guess'"):
        meter.ranges("guess")
    with pytest.raises(ValueError, match="at least one sample"):
        ranges.RangeMeter(pm.random_folded(pm.ONE_LAYER)).ranges("minmax")


def test_a_missing_range_is_named():
    folded = pm.random_folded(pm.ONE_LAYER)
    with pytest.raises(quantize.RangeError, match="no range for activation 'xhat0'"):
        pm.graph.PortableGraph(folded, {}, 8)


def graph_with(kind="ADD", dtype=np.int8, input_dtype=np.int32):
    ids = Tensor("ids", (1, 4), input_dtype)
    middle = Tensor("middle", (1, 4), dtype, 1.0)
    out = Tensor("logits", (1, 4), np.int8, 1.0)
    return Graph([ids], [out], [Op("CAST", [ids], [middle]), Op(kind, [middle, middle], [out])])


def test_float_tensors_are_refused_by_operator_and_name():
    checks.check_full_int8(graph_with())
    for dtype, name in ((np.float32, "FLOAT32"), (np.float16, "FLOAT16")):
        with pytest.raises(
            checks.UnsupportedGraphError,
            match=rf"operator 0 \(CAST\) has the {name} output 'middle': the graph is not fully",
        ):
            checks.check_full_int8(graph_with(dtype=dtype))


def test_other_inputs_and_outputs_are_refused():
    with pytest.raises(checks.UnsupportedGraphError, match="input 'ids' is INT8; token ids are"):
        checks.check_full_int8(graph_with(input_dtype=np.int8))
    graph = graph_with()
    graph.outputs[0].type_name = "INT16"
    with pytest.raises(checks.UnsupportedGraphError, match="output 'logits' is INT16, not INT8"):
        checks.check_full_int8(graph)


def test_custom_operators_are_refused_by_name():
    graph = graph_with("CUSTOM")
    graph.ops[1].custom_code = "Fancy"
    with pytest.raises(checks.UnsupportedGraphError, match=r"operator 1 \(Fancy\) is not builtin"):
        checks.check_builtin(graph)


def test_the_portable_graph_passes_every_check():
    graph = reader.read(pm.to_bytes(pm.build(pm.random_folded(pm.WIDE), 20, pair=True)))
    checks.check_full_int8(graph)
    checks.check_builtin(graph)


def test_snr_of_weights_is_that_of_their_rounding():
    values = np.array([[1.0, 0.5], [100.0, 30.0]])
    for axis in (None, 0, 1):
        quantized, scale = quantize.weights(values, axis)
        scale = np.expand_dims(scale, 1 - axis) if axis is not None else scale
        noise = ((quantized * scale - values) ** 2).sum()
        expected = 10 * np.log10((values**2).sum() / noise)
        assert quantize.weight_snr(values, axis) == pytest.approx(expected, abs=0.01)


def test_the_measured_error_decides_which_weights_have_a_scale_a_channel():
    folded = pm.random_folded(pm.WIDE)
    even = np.sign(folded.head_w) * (1 + np.abs(folded.head_w) % 0.01)
    uneven = even * np.logspace(0, 2, even.shape[1])
    for head, channelwise in ((even, False), (uneven, True)):
        model = dataclasses.replace(folded, head_w=head.astype(np.float32))
        built = pm.build(model, 12, per_channel=None)
        assert sorted(built.weight_snr) == ["embed", "head"]
        tensor, channel, chosen = built.weight_snr["head"]
        assert chosen == channelwise == (channel - tensor >= 3)
        scale = next(
            tensor.scale
            for op in built.graph.ops
            for tensor in op.inputs
            if tensor is not None and tensor.name == "head_w"
        )
        assert np.size(scale) == (head.shape[1] if channelwise else 1)
        assert ("takes the latter" in built.describe_weights().split(";")[1]) == channelwise
