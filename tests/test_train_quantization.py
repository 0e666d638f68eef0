import numpy as np
import pytest
from tensorflow import keras

import embbert_tf  # noqa: F401  Sets TF_USE_LEGACY_KERAS.
from embbert_tf import folding, quantization, run, tokenizer


@pytest.fixture(scope="module")
def loaded(tiny_run):
    return run.load_run(tiny_run)


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
        if name.rstrip("0123456789") in folding.SYMMETRIC:
            assert low == pytest.approx(-high, rel=0.02), name


def test_every_activation_lies_on_its_int8_grid(loaded, monkeypatch):
    seen = {}
    call = quantization.ActivationQuantizer.call

    def recorded(self, x, training=None):
        seen[self.name] = call(self, x, training)
        return seen[self.name]

    monkeypatch.setattr(quantization.ActivationQuantizer, "call", recorded)
    model = loaded.qat_model
    model(ids_of(loaded, "stop the pump", "what the door is that 4"))
    assert set(seen) == set(folding.activation_names(loaded.config))
    for name, value in seen.items():
        low, high = loaded.ranges[name]
        symmetric = name.rstrip("0123456789") in folding.SYMMETRIC
        scale = (high - low) / (254 if symmetric else 255)
        steps = value.numpy() / scale
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-2, err_msg=name)
        assert np.unique(np.round(steps)).size <= 256


def test_padding_changes_neither_logits_nor_ranges(loaded):
    model = quantization.QuantizedClassifier(loaded.config, 3)
    ids = ids_of(loaded, "stop the pump")
    padded = np.pad(ids, [(0, 0), (0, 9)])
    ranges = []
    for batch in (ids, padded):
        model(batch)
        model.start_from(loaded.model, [ids[0].tolist()])
        for _ in range(20):
            model(batch, training=True)
        ranges.append(model.ranges())
        np.testing.assert_allclose(model(ids).numpy(), model(padded).numpy(), atol=1e-5)
    for name, expected in ranges[0].items():
        assert ranges[1][name] == pytest.approx(expected, abs=1e-5), name


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
