import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

import embbert_tf  # noqa: F401  Sets TF_USE_LEGACY_KERAS.
from embbert_tf.model import convolution
from embbert_tf.model.backbone import EmbBertBackbone
from embbert_tf.model.classifier import EmbBertClassifier
from embbert_tf.model.config import PRESETS, EmbBertConfig
from embbert_tf.quantization import folding

TINY = PRESETS["test"]


@pytest.fixture(scope="module")
def model():
    """A tiny classifier none of whose weights is at a special value such as 0 or 1."""
    keras.utils.set_random_seed(3)
    model = EmbBertClassifier(TINY, num_labels=3)
    rng = np.random.default_rng(3)
    model.set_weights(
        [w + rng.normal(0, 0.1, w.shape).astype(np.float32) for w in model.get_weights()]
    )
    return model


def sequence(rng, n, pair=False):
    ids = rng.integers(5, TINY.vocab_size, n)
    ids[0] = 2
    if pair:
        ids[n // 2] = 4
    return ids.astype(np.int32)


def test_parameter_count_is_that_of_the_paper():
    backbone = EmbBertBackbone(EmbBertConfig())
    assert backbone.count_params() == 357_248
    assert backbone.embedder.count_params() == 139_648
    assert [block.count_params() for block in backbone.blocks] == [54_400] * 4


@pytest.mark.parametrize(
    "preset, parameters",
    [("nano", 65_856), ("tiny", 146_048), ("embbert", 357_248), ("medium", 1_834_752),
     ("big", 7_306_752)],
)  # fmt: skip
def test_presets_have_the_published_sizes(preset, parameters):
    assert EmbBertBackbone(PRESETS[preset]).count_params() == parameters


def test_keras_file_gives_the_same_logits(model, tmp_path):
    ids = np.stack([sequence(np.random.default_rng(0), 9)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, EmbBertClassifier)
    assert loaded.config == TINY
    np.testing.assert_array_equal(loaded(ids).numpy(), model(ids).numpy())


@pytest.mark.parametrize("n", [1, 2, 5, 17])
@pytest.mark.parametrize("padding", [1, 15])
def test_padding_does_not_change_the_logits(model, n, padding):
    ids = sequence(np.random.default_rng(n), n)[np.newaxis]
    padded = np.pad(ids, [(0, 0), (0, padding)])
    np.testing.assert_allclose(model(padded).numpy(), model(ids).numpy(), atol=2e-6)


def test_only_padding_gives_finite_numbers(model):
    assert np.isfinite(model(np.zeros((1, 4), np.int32)).numpy()).all()


def test_first_row_alone_equals_the_whole_model(model):
    whole = EmbBertBackbone(TINY)
    whole.set_weights(model.backbone.get_weights())
    ids = np.stack([sequence(np.random.default_rng(1), 11), sequence(np.random.default_rng(2), 11)])
    assert model.backbone(ids).shape == (2, 1, TINY.hidden_size)
    np.testing.assert_allclose(
        whole(ids)[:, :1].numpy(), model.backbone(ids).numpy(), rtol=1e-5, atol=1e-6
    )


def test_convolution_is_causal_and_in_channel_order():
    rng = np.random.default_rng(0)
    # Below and above the length at which the implementation changes.
    for n in (1, 7, 64, 65):
        x = rng.normal(size=(2, n, 3)).astype(np.float32)
        kernel = rng.normal(size=(5, 3, 2)).astype(np.float32)
        expected = np.zeros((2, n, 6))
        for t in range(n):
            for k in range(5):
                if t - 4 + k >= 0:
                    product = x[:, t - 4 + k, :, np.newaxis] * kernel[k]
                    expected[:, t] += product.reshape(2, 6)
        actual = convolution.causal_depthwise(tf.constant(x), tf.constant(kernel))
        np.testing.assert_allclose(actual.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 6, 32])
@pytest.mark.parametrize("pair", [False, True])
def test_folded_model_is_the_keras_model(model, n, pair):
    ids = sequence(np.random.default_rng(n), n, pair)
    taps = {}
    logits = folding.forward(folding.fold(model), ids, taps.__setitem__)
    np.testing.assert_allclose(logits, model(ids[np.newaxis]).numpy()[0], atol=1e-4)
    assert list(taps) == folding.activation_names(TINY)
    np.testing.assert_array_equal(taps["logits"], logits)
    last = TINY.num_layers - 1
    inner = TINY.hidden_size * TINY.expansion
    assert taps["scores0"].shape == (n, n)
    assert taps[f"scores{last}"].shape == (1, n)
    assert taps[f"y{last}"].shape == (1, inner)
    np.testing.assert_allclose(np.square(taps["xhat0"]).mean(axis=1), 1.0, rtol=1e-3)


@pytest.mark.slow
def test_it_trains_as_any_keras_model():
    keras.utils.set_random_seed(0)
    model = EmbBertClassifier(TINY, num_labels=2, dropout=0.0)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    ids = np.array([[2, 10, 20, 0], [2, 30, 20, 0]] * 32, np.int32)
    labels = np.array([0, 1] * 32)
    history = model.fit(ids, labels, epochs=15, batch_size=16, verbose=0).history
    assert history["loss"][-1] < 0.1 < history["loss"][0]
    assert history["accuracy"][-1] == 1.0


@pytest.mark.parametrize(
    "fields, word",
    [({"vocab_size": 0}, "vocab_size"), ({"num_heads": 2}, "num_heads"), ({"dropout": 1}, "dropo")],
)
def test_impossible_sizes_are_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        dataclasses.replace(TINY, **fields)
