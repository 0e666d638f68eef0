"""Runs with packed weights: what `zoo/` holds loads like any other run."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.storage import backbone_folder, packed_weights, run_folder

NAMES = ["a/kernel", "a/bias"]
SHAPES = {"a/kernel": (3, 2), "a/bias": (2,)}


def some_weights(seed, spread=1e-3):
    rng = np.random.default_rng(seed)
    plain = [rng.normal(0, 0.1, shape).astype(np.float32) for shape in SHAPES.values()]
    trained = [w + rng.normal(0, spread, w.shape).astype(np.float32) for w in plain]
    return plain, trained


def nearest(arrays):
    """By arithmetic, not by bits: the nearest multiple of a step, ties away from 0."""
    result = []
    for value in arrays:
        _, exponent = np.frexp(value.astype(np.float64))
        # Subnormal numbers have fewer bits.
        exponent = np.maximum(exponent, -125)
        steps = np.ldexp(value.astype(np.float64), packed_weights.FRACTION_BITS + 1 - exponent)
        steps = np.sign(steps) * np.floor(np.abs(steps) + 0.5)
        result.append(
            np.ldexp(steps, exponent - packed_weights.FRACTION_BITS - 1).astype(np.float32)
        )
    return result


def write(path, *arguments):
    path.write_bytes(packed_weights.pack(NAMES, *arguments))
    return path


def assert_same(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)


numbers = st.floats(-(2.0**127), 2.0**127, width=32) | st.floats(-1, 1, width=32)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_any_finite_weights_come_back_rounded(tmp_path_factory, pairs):
    """However far apart the two weights are, and whatever their signs."""
    path = tmp_path_factory.mktemp("packed") / packed_weights.PACKED
    one, other = (np.array(column, np.float32) for column in zip(*pairs, strict=True))
    path.write_bytes(packed_weights.pack(["w"], [one], [other]))
    plain, trained = packed_weights.unpack(path, {"w": one.shape})
    assert_same(plain, nearest([one]))
    assert_same(trained, nearest([other]))


def test_equal_weights_give_equal_files():
    plain, trained = some_weights(1)
    assert packed_weights.pack(NAMES, plain, trained) == packed_weights.pack(NAMES, plain, trained)


def test_close_weights_take_less_than_one_copy():
    rng = np.random.default_rng(0)
    plain = rng.normal(0, 0.1, (200, 200)).astype(np.float32)
    trained = plain + rng.normal(0, 1e-3, plain.shape).astype(np.float32)
    assert len(packed_weights.pack(["w"], [plain], [trained])) < 0.9 * 4 * plain.size


@pytest.mark.parametrize("bad", [np.nan, np.inf, np.finfo(np.float32).max])
def test_refuses_weights_that_cannot_be_rounded(bad):
    plain, trained = some_weights(1)
    trained[0][1, 1] = bad
    with pytest.raises(errors.PackedWeightsError, match="a/kernel"):
        packed_weights.pack(NAMES, plain, trained)


def test_refuses_a_damaged_file(tmp_path):
    path = write(tmp_path / packed_weights.PACKED, *some_weights(1))
    raw = path.read_bytes()
    for cut in (b"", raw[:100], raw[:-30], raw[:200] + bytes(60) + raw[260:]):
        path.write_bytes(cut)
        with pytest.raises(errors.PackedWeightsError, match=r"weights\.npz"):
            packed_weights.unpack(path, SHAPES)


def test_refuses_a_pickle(tmp_path):
    path = tmp_path / packed_weights.PACKED
    np.savez(path, **{"fp32/a/kernel": np.array([object()])})
    with pytest.raises(errors.PackedWeightsError, match="cannot be read"):
        packed_weights.unpack(path, SHAPES)


def test_names_the_weight_that_does_not_fit(tmp_path):
    path = write(tmp_path / packed_weights.PACKED, *some_weights(1))
    with pytest.raises(errors.PackedWeightsError, match="surplus fp32/a/bias"):
        packed_weights.unpack(path, {"a/kernel": (3, 2)})
    with pytest.raises(errors.PackedWeightsError, match="missing fp32/b"):
        packed_weights.unpack(path, {**SHAPES, "b": (1,)})
    with pytest.raises(errors.PackedWeightsError, match=r"fp32/a/kernel is uint8 \[3, 3, 2\], not"):
        packed_weights.unpack(path, {**SHAPES, "a/kernel": (2, 3)})


@pytest.fixture(scope="module")
def packed(tiny_run, tmp_path_factory):
    """(the run as training left it, the folder of the same run with packed weights)."""
    run = run_folder.load_run(tiny_run)
    path = tmp_path_factory.mktemp("packed") / "run"
    path.mkdir()
    for name in (run_folder.CONFIG, run_folder.TOKENIZER, run_folder.LABELS, run_folder.RANGES):
        shutil.copyfile(tiny_run / name, path / name)
    (path / packed_weights.PACKED).write_bytes(
        packed_weights.pack(
            list(run_folder.weight_shapes(run.model)),
            run.model.get_weights(),
            run.qat_model.classifier.get_weights(),
        )
    )
    return run, path


@pytest.mark.slow
def test_loads_as_a_run(packed):
    run, path = packed
    found = run_folder.load_run(path)
    assert_same(found.model.get_weights(), nearest(run.model.get_weights()))
    trained = run.qat_model.classifier.get_weights()
    assert_same(found.qat_model.classifier.get_weights(), nearest(trained))
    assert (found.labels, found.task, found.pair) == (run.labels, run.task, run.pair)
    assert found.ranges == run.ranges == found.qat_model.ranges()


def test_quantizers_are_those_of_training(packed):
    """The same weights give the same bits: ranges are all that the quantizers remember."""
    run, path = packed
    found = run_folder.load_run(path)
    found.qat_model.classifier.set_weights(run.qat_model.classifier.get_weights())
    ids = np.random.default_rng(0).integers(5, run.config.vocab_size, (8, 12))
    np.testing.assert_array_equal(found.qat_model(ids).numpy(), run.qat_model(ids).numpy())


@pytest.mark.slow
def test_serves_as_the_start_of_a_training(packed):
    run, path = packed
    assert backbone_folder.weights_path(path) == path / packed_weights.PACKED
    start = backbone_folder.load_backbone(path)
    assert_same(start.model.get_weights(), nearest(run.model.backbone.get_weights()))


@pytest.mark.slow
def test_says_what_is_wrong_with_the_folder(packed, tmp_path):
    _, path = packed
    shutil.copytree(path, tmp_path / "run")
    (tmp_path / "run" / run_folder.RANGES).unlink()
    with pytest.raises(errors.RunError, match=r"ranges.json is missing"):
        run_folder.load_run(tmp_path / "run")
    ranges = files.read_json(path / run_folder.RANGES)
    ranges.pop("x0")
    files.write_json(tmp_path / "run" / run_folder.RANGES, ranges)
    with pytest.raises(errors.RunError, match="range of x0 is missing"):
        run_folder.load_run(tmp_path / "run")
    shutil.copyfile(path / run_folder.RANGES, tmp_path / "run" / run_folder.RANGES)
    (tmp_path / "run" / packed_weights.PACKED).write_bytes(b"not this")
    with pytest.raises(errors.RunError, match=r"weights\.npz"):
        run_folder.load_run(tmp_path / "run")
