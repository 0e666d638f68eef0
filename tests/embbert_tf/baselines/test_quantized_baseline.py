"""Quantization-aware forms of the compared models."""

import numpy as np
import pytest

from embbert_tf import errors
from embbert_tf.baselines.config import ARCHITECTURES
from tests.embbert_tf.baselines.test_baselines import EACH_KIND, IDS, classifier_of, small


def quantized_of(name):
    from embbert_tf.baselines import quantized_baseline

    model = classifier_of(small(name))
    return model, quantized_baseline.quantize(model, IDS)


@pytest.mark.parametrize("name", EACH_KIND)
def test_close_to_float(name):
    model, quantized = quantized_of(name)
    exact, rounded = model(IDS).numpy(), quantized(IDS).numpy()
    assert np.abs(exact - rounded).max() < 0.15 * np.ptp(exact)
    # On the grid of the logits: 256 steps of its range.
    low, high = quantized.ranges()["logits"]
    steps = rounded / ((high - low) / 255)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-2)


@pytest.mark.parametrize("name", EACH_KIND)
def test_learns_every_weight_and_settles(name, tmp_path, eager):
    from tensorflow import keras

    _, quantized = quantized_of(name)
    before = [weight.numpy() for weight in quantized.classifier.trainable_variables]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    quantized.compile(keras.optimizers.legacy.SGD(0.1), loss)
    quantized.fit(IDS, np.array([0, 1, 2]), epochs=2, verbose=0)
    unchanged = [
        weight.name
        for weight, old in zip(quantized.classifier.trainable_variables, before, strict=True)
        if np.array_equal(weight.numpy(), old)
    ]
    # The keys' bias moves all scores of a query alike: nothing depends on it.
    assert [name for name in unchanged if "key_bias" not in name] == []
    settled = quantized.settled()
    np.testing.assert_allclose(settled(IDS).numpy(), quantized(IDS).numpy(), atol=1e-5)
    settled.save(tmp_path / "qat.keras")
    loaded = keras.models.load_model(tmp_path / "qat.keras", compile=False)
    np.testing.assert_array_equal(loaded(IDS).numpy(), settled(IDS).numpy())


def test_refuses():
    from embbert_tf.baselines import quantized_baseline

    model = classifier_of(small("bert"))
    with pytest.raises(errors.OptionError, match="weight_bits of a transformer is 8, not 4"):
        quantized_baseline.quantize(model, IDS, weight_bits=4)
    with pytest.raises(errors.DataError, match="token id 99"):
        quantized_baseline.quantize(model, [[2, 99]])
    padded = classifier_of(small("bert", attend_to_padding=True))
    with pytest.raises(errors.OptionError, match="train it without attend_to_padding"):
        quantized_baseline.quantize(padded, IDS)
    model.head.bias.assign([np.nan, 0, 0])
    with pytest.raises(errors.OptionError, match="no finite number"):
        quantized_baseline.quantize(model, IDS)
    _, quantized = quantized_of("bert")
    with pytest.raises(ValueError, match="range of logits is missing"):
        quantized.restore_ranges({k: v for k, v in quantized.ranges().items() if k != "logits"})
    assert quantized.steps() == {} and ARCHITECTURES["bert"].num_heads == 2


@pytest.mark.parametrize("name", ["embedder", "mamba"])
def test_a_channel_without_values_takes_no_steps_from_others(name):
    """The reciprocal root of its mean, which is next to 0, would be the largest by far."""
    from embbert_tf.baselines import quantized_baseline

    model = classifier_of(small(name))
    embedder = model.backbone.embedder
    silent = [embedder.segment, *(embedder.token_expander, embedder.position_expander)] if (
        embedder.reduced_size
    ) else [embedder.segment, embedder.token, embedder.position]  # fmt: skip
    silent += [block.out_kernel for block in getattr(model.backbone, "blocks", [])]
    for weight in silent:
        weight.assign(weight.numpy() * np.where(np.arange(weight.shape[-1]) == 3, 1e-4, 1.0))
    quantized = quantized_baseline.quantize(model, IDS)
    exact, rounded = model(IDS).numpy(), quantized(IDS).numpy()
    assert np.abs(exact - rounded).max() < 0.15 * np.ptp(exact)
    assert quantized.ranges()["root"][1] < 20
