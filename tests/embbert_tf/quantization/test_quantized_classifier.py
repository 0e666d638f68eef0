import numpy as np
import pytest
from tensorflow import keras

import embbert_tf  # noqa: F401  Sets TF_USE_LEGACY_KERAS.
from embbert_tf.data import tokenizer
from embbert_tf.quantization import fake_quant, folding, quantized_classifier
from embbert_tf.storage import run_folder


@pytest.fixture(scope="module")
def loaded(tiny_run):
    return run_folder.load_run(tiny_run)


def ids_of(loaded, *texts):
    rows = [tokenizer.encode(loaded.tokenizer, text) for text in texts]
    width = max(map(len, rows))
    return np.array([row + [0] * (width - len(row)) for row in rows], np.int32)


def test_every_activation_has_a_range(loaded):
    names = folding.activation_names(loaded.config)
    assert set(loaded.ranges) == set(names)
    for name, (low, high) in loaded.ranges.items():
        assert low <= 0.0 <= high, name
        assert 0.0 < high - low < 1000.0, name
        if folding.kind(name) in folding.SYMMETRIC:
            assert low == pytest.approx(-high, rel=0.02), name


def test_every_activation_lies_on_its_int8_grid(loaded, monkeypatch):
    seen = {}
    call = fake_quant.ActivationQuantizer.call

    def recorded(self, x, training=None):
        seen[self.name] = call(self, x, training)
        return seen[self.name]

    monkeypatch.setattr(fake_quant.ActivationQuantizer, "call", recorded)
    model = loaded.qat_model
    model(ids_of(loaded, "stop the pump", "what the door is that 4"))
    assert set(seen) == set(folding.activation_names(loaded.config))
    for name, value in seen.items():
        low, high = loaded.ranges[name]
        symmetric = folding.kind(name) in folding.SYMMETRIC
        scale = (high - low) / (254 if symmetric else 255)
        steps = value.numpy() / scale
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-2, err_msg=name)
        assert np.unique(np.round(steps)).size <= 256


@pytest.mark.slow
def test_padding_changes_neither_logits_nor_ranges(loaded):
    ids = ids_of(loaded, "stop the pump")
    padded = np.pad(ids, [(0, 0), (0, 9)])
    ranges = []
    for batch in (ids, padded):
        model = quantized_classifier.quantize(loaded.model, batch)
        for name in ("ms0", "r0", "logits"):
            model.activation_quantizers[name].set_range(0.0, 1e-3)  # Has to grow.
        for _ in range(3):
            model(batch, training=True)
        ranges.append(model.ranges())
        np.testing.assert_allclose(model(ids).numpy(), model(padded).numpy(), atol=1e-5)
    assert all(ranges[0][name][1] > 1e-3 for name in ("ms0", "r0"))
    for name, expected in ranges[0].items():
        assert ranges[1][name] == pytest.approx(expected, abs=1e-5), name


def test_a_mean_square_that_rounds_to_nothing_does_not_widen_the_range_of_its_root(loaded):
    ids = ids_of(loaded, "stop the pump")
    model = quantized_classifier.quantize(loaded.model, ids)
    before = model.ranges()
    for name, layer in model.activation_quantizers.items():
        if name.startswith("sq"):
            layer.set_range(0.0, 1e9)  # Steps so wide that every square rounds to 0.
    model(ids, training=True)
    for name, (_, high) in model.ranges().items():
        if name.startswith("r"):
            assert high == before[name][1], name


def test_quantized_model_follows_the_float_model(loaded):
    ids = ids_of(loaded, "start the fan 2", "stop the pump", "which the door")
    folded = folding.fold(loaded.qat_model)
    exact = np.stack([folding.forward(folded, row[row > 0]) for row in ids])
    quantized = loaded.qat_model(ids).numpy()
    assert np.abs(quantized - exact).max() < 0.15 * np.abs(exact).max()
    assert (quantized != exact).any()


def test_gradients_reach_every_weight_through_the_rounding(loaded):
    import tensorflow as tf

    model = loaded.qat_model
    with tf.GradientTape() as tape:
        logits = model(ids_of(loaded, "start the fan", "what the lamp"), training=True)
        loss = keras.losses.sparse_categorical_crossentropy([0, 2], logits, from_logits=True)
    weights = model.trainable_variables
    assert len(weights) == len(loaded.model.trainable_variables)
    for variable, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        assert gradient is not None, variable.name
        assert np.isfinite(tf.convert_to_tensor(gradient).numpy()).all(), variable.name


def test_saved_model_is_the_same(loaded, tmp_path):
    ids = ids_of(loaded, "start the fan")
    loaded.qat_model.save(tmp_path / "q.keras")
    again = keras.models.load_model(tmp_path / "q.keras")
    np.testing.assert_array_equal(again(ids).numpy(), loaded.qat_model(ids).numpy())


def test_learnt_ranges_get_the_gradient_of_the_rounding():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=4000).astype(np.float32))

    def error(low, high):
        return tf.reduce_mean((fake_quant._fake_int8(x, low, high) - x) ** 2)

    # On the grid of 255 steps the error as a function of a range is a saw; its slope is not, so
    # look where descent leads: far out, or far in, each end must be drawn towards the values.
    for low, high, signs in ((-40.0, 40.0, (-1, 1)), (-1.0, 1.0, (1, -1)), (-40.0, 1.0, (-1, -1))):
        ends = [tf.Variable(low), tf.Variable(high)]
        with tf.GradientTape() as tape:
            loss = error(*ends)
        slopes = [float(g) for g in tape.gradient(loss, ends)]
        assert [np.sign(s) for s in slopes] == list(signs), (low, high, slopes)
    step = tf.Variable(20.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((fake_quant._fake_symmetric_int8(x, step) - x) ** 2)
    assert float(tape.gradient(loss, step)) > 0


@pytest.mark.slow
def test_learnt_ranges_settle_into_an_ordinary_model(loaded):
    import tensorflow as tf

    from embbert_tf.quantization import ranges as ranges_lib

    ids = ids_of(loaded, "start the fan", "what the lamp")
    model = quantized_classifier.quantize(loaded.model, ids)
    factors = len(model.trainable_variables) - len(loaded.model.trainable_variables)
    kinds = [folding.kind(name) for name in folding.activation_names(loaded.config)]
    symmetric = sum(kind in folding.SYMMETRIC for kind in kinds)
    learnt = sum(kind not in ranges_lib.NEVER_CUT for kind in kinds)
    assert factors == 2 * learnt - symmetric
    before = model.ranges()

    optimizer = keras.optimizers.Adam(0.01)
    for _ in range(5):
        with tf.GradientTape() as tape:
            logits = model(ids_of(loaded, "start the heater 5", "which the pump"), training=True)
            loss = keras.losses.sparse_categorical_crossentropy([2, 0], logits, from_logits=True)
        weights = model.trainable_variables
        gradients = tape.gradient(loss, weights)
        assert all(g is not None for g in gradients)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
    after = model.ranges()
    for name, kind in zip(before, kinds, strict=True):
        assert after[name] != before[name] or kind in ranges_lib.NEVER_CUT, name
        assert after[name][0] <= 0 <= after[name][1]
        if kind in ranges_lib.NEVER_CUT:
            assert after[name][0] <= before[name][0] <= before[name][1] <= after[name][1], name

    settled = model.settled()
    assert len(settled.trainable_variables) == len(loaded.model.trainable_variables)
    for name, range_ in settled.ranges().items():
        assert range_ == pytest.approx(after[name]), name
    np.testing.assert_allclose(settled(ids).numpy(), model(ids).numpy(), atol=1e-4)


def test_ranges_of_a_saved_model_stay_where_they_are(loaded):
    model = loaded.qat_model.settled()
    before = model.ranges()
    for text in ("start the fan", "which the door is that 4"):
        model(ids_of(loaded, text), training=True)
    assert model.ranges() == before
    for name, ends in before.items():
        assert ends == pytest.approx(loaded.ranges[name]), name
