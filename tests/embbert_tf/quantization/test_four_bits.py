"""Weights of 4 bits: the quantizer, the classifier that trains with it, what leaves training."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

import converters
import embbert_tf
from converters.kernels import params, recognize, reference
from converters.zoo import add
from embbert_tf.data import files
from embbert_tf.quantization import fake_quant, folding
from embbert_tf.storage import run_folder

# Rows of 32: others stay int8 on the device.
CONFIG = dataclasses.replace(
    embbert_tf.PRESETS["test"], num_layers=2, hidden_size=32, reduced_size=16
)
SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _ids(count=24, seed=0):
    ids = np.random.default_rng(seed).integers(10, CONFIG.vocab_size, (count, 8)).astype(np.int32)
    ids[:, 0] = 2
    ids[::3, 5:] = 0
    return ids


@pytest.fixture(scope="module", name="quantized")
def _quantized():
    keras.utils.set_random_seed(0)
    classifier = embbert_tf.EmbBertClassifier(CONFIG, num_labels=3, dropout=0.0)
    return embbert_tf.quantize(classifier, _ids(), weight_bits=4)


@pytest.mark.parametrize(("factors", "most"), [("one", 1), ("most", 18), ("channel", 18)])
def test_int8_weights_are_factors_times_codes(factors, most):
    w = np.random.default_rng(0).normal(size=(50, 6)) * np.array([1, 0.5, 2, 0.1, 0.02, 1])
    quantizer = fake_quant.CodeQuantizer(6, factors)
    quantizer.start_from(w)
    weights, scale = quantizer.quantized(w)
    assert np.shape(scale) == (() if factors == "channel" else (6,))
    np.testing.assert_allclose(quantizer(w.astype(np.float32)), weights * scale, rtol=1e-5)
    found = np.gcd.reduce(weights.astype(int), axis=0)
    assert np.abs(weights // found).max() <= 7
    if factors == "channel":
        assert 1 <= found.min() < found.max() == 18
    else:
        assert (found == most).all()
    error = np.abs(weights * scale - w).mean(axis=0) / np.abs(w).mean(axis=0)
    assert (error[[0, 1, 2, 5]] < 0.12).all()


def test_steps_learn_by_the_gradient_of_the_rounding():
    w = tf.constant(np.random.default_rng(1).normal(size=(4000, 2)).astype(np.float32))
    for start, sign in ((0.02, -1), (3.0, 1)):  # Cut off much too early; much too coarse.
        quantizer = fake_quant.CodeQuantizer(2, "one")
        quantizer.set_steps([start, start])
        growth = quantizer.learn()
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((quantizer(w) - w) ** 2)
        assert (np.sign(tape.gradient(loss, growth).numpy()) == sign).all()
        growth.assign([0.5, -0.5])
        np.testing.assert_allclose(quantizer.steps(), start * np.exp([0.5, -0.5]), rtol=1e-5)


def test_other_factors_are_refused():
    with pytest.raises(ValueError, match="factors are"):
        fake_quant.CodeQuantizer(2, "none")


def test_it_follows_its_float_model(quantized):
    ids = _ids(seed=1)
    exact = quantized.classifier(ids).numpy()
    rounded = quantized(ids).numpy()
    assert (rounded != exact).any()
    assert np.corrcoef(rounded.ravel(), exact.ravel())[0, 1] > 0.9
    folded = folding.fold(quantized)
    want = np.stack([folding.forward(folded, row[row > 0]) for row in ids])
    # What is left are the activations' int8; see test_conversion_keeps_the_codes of the median.
    assert np.median(np.abs(rounded - want)) < 0.1 * np.median(np.abs(exact))


def test_folded_weights_are_integers_times_their_scales(quantized):
    folded = folding.fold(quantized)
    names = {"token", "embed", "head"} | {f"{w}{i}" for w in folding.DENSE for i in range(2)}
    assert set(folded.scales) == set(quantized.steps()) == names
    weights = {f"{w}{i}": getattr(folded.blocks[i], w) for w in folding.DENSE for i in range(2)}
    weights |= {"token": folded.token, "embed": folded.scaled_expansion(), "head": folded.head_w}
    for name, values in weights.items():
        steps = values / folded.scales[name]
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3, err_msg=name)
        assert np.abs(steps).max() < 127, name


def test_training_moves_weights_and_steps(quantized, eager):
    model = quantized.from_config(quantized.get_config())
    model.set_weights(quantized.get_weights())
    before = model.steps()
    model.compile(keras.optimizers.Adam(0.01), SPARSE)
    model.fit(_ids(), np.arange(24) % 3, epochs=1, batch_size=12, verbose=0)
    assert all(model.steps()[name] != steps for name, steps in before.items())
    settled = model.settled()
    assert len(settled.trainable_variables) == len(model.classifier.trainable_variables)
    np.testing.assert_allclose(settled(_ids()), model(_ids()), atol=1e-4)
    for name, steps in model.steps().items():
        np.testing.assert_allclose(settled.steps()[name], steps, rtol=1e-6)


@pytest.mark.slow
def test_it_is_saved_and_loaded(quantized, tmp_path):
    quantized.save(tmp_path / "four.keras")
    loaded = keras.models.load_model(tmp_path / "four.keras", compile=False)
    assert (loaded.weight_bits, loaded.learning) == (4, True)
    np.testing.assert_array_equal(loaded(_ids()).numpy(), quantized(_ids()).numpy())


def test_steps_of_other_weights_are_refused(quantized):
    steps = quantized.steps()
    with pytest.raises(ValueError, match="steps of wq7 are unknown"):
        quantized.restore_steps(steps | {"wq7": [1.0]})
    del steps["wv0"]
    with pytest.raises(ValueError, match="steps of wv0 are missing"):
        quantized.restore_steps(steps)


def test_conversion_keeps_the_codes(quantized):
    """The same answers as the fake-quantized model's, from blobs of the packed kind."""
    tflite = converters.convert_keras(quantized, max_length=8)
    model = recognize.extract(tflite)
    blobs = params.model_params(model)
    kinds = [part.options()[:4] for part in (blobs.embed, *blobs.blocks, blobs.head)]
    assert kinds == [b"EMB3", b"BLK3", b"BLK3", b"HED3"]
    kernels = reference.Reference(model)
    ids = _ids(seed=2)
    integers = np.stack([kernels.infer(row[row > 0]) for row in ids]).astype(float)
    got = (integers - model.logits_zero) * model.logits_scale
    # A random model's softmax can turn over by one step of a score: not so the median text's.
    assert np.median(np.abs(got - quantized(ids).numpy())) < 3 * model.logits_scale


@pytest.mark.parametrize("recipe", ["qat", "qat16"])
def test_recipes_of_8_bits_are_refused(quantized, recipe):
    with pytest.raises(embbert_tf.EmbBertError, match="--weight_bits=8"):
        converters.convert_keras(quantized, max_length=8, recipe=recipe)


@pytest.mark.slow
def test_recipe_of_4_bits_needs_such_a_training():
    classifier = embbert_tf.EmbBertClassifier(CONFIG, num_labels=2)
    model = embbert_tf.quantize(classifier, _ids())
    with pytest.raises(embbert_tf.EmbBertError, match="--weight_bits=4"):
        converters.convert_keras(model, max_length=8, recipe="qat4")


@pytest.mark.parametrize("bits", [0, 3, 16, "4"])
def test_other_bits_are_refused(bits):
    classifier = embbert_tf.EmbBertClassifier(CONFIG, num_labels=2)
    with pytest.raises(embbert_tf.EmbBertError, match="weight_bits is 8 or 4"):
        embbert_tf.quantize(classifier, _ids(), weight_bits=bits)
    if isinstance(bits, int):
        with pytest.raises(embbert_tf.EmbBertError, match="weight_bits must be one of 8, 4"):
            embbert_tf.QatOptions(weight_bits=bits)


def test_a_packed_run_keeps_its_steps(tiny_run, tmp_path):
    run = run_folder.load_run(tiny_run)
    sample = np.array([[2, 10, 11, 12], [2, 13, 14, 0]])
    model = embbert_tf.quantize(run.model, sample, weight_bits=4).settled()
    source, packed = tmp_path / "source", tmp_path / "packed"
    shutil.copytree(tiny_run, source)
    files.write_json(source / run_folder.STEPS, model.steps())
    ranges = {name: list(ends) for name, ends in model.ranges().items()}
    files.write_json(source / run_folder.RANGES, ranges)
    packed.mkdir()
    add.write_packed_run(dataclasses.replace(run, path=source, qat_model=model), packed)
    loaded = run_folder.load_run(packed).qat_model
    assert loaded.weight_bits == 4
    for name, steps in model.steps().items():
        np.testing.assert_allclose(loaded.steps()[name], steps, rtol=1e-6)
    np.testing.assert_allclose(loaded(sample), model(sample), atol=0.1)
