"""Noise in place of rounding: where it is, how much, and what training with it does."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import run_module

from embbert_tf import folding, rounding_noise, run
from embbert_tf.classifier import EmbBertClassifier
from embbert_tf.config import PRESETS

IDS = np.array([[2, 7, 9, 30, 11], [2, 8, 5, 0, 0]], np.int32)


@pytest.fixture(scope="module")
def classifier():
    tf.keras.utils.set_random_seed(3)
    return EmbBertClassifier(PRESETS["tiny"], 3)


def test_without_noise_both_draws_are_the_classifier(classifier):
    noisy = rounding_noise.NoisyClassifier(classifier, noise=0.0, agreement=1.0)
    plain = classifier(IDS).numpy()
    np.testing.assert_array_equal(noisy(IDS).numpy(), plain)
    np.testing.assert_allclose(noisy(IDS, training=True).numpy(), plain, atol=1e-4)
    assert float(noisy.losses[0]) == pytest.approx(0.0, abs=1e-6)
    assert len(noisy.trainable_variables) == len(classifier.trainable_variables)


def test_noise_is_as_wide_as_so_many_int8_steps(classifier):
    noisy = rounding_noise.NoisyClassifier(classifier, noise=6.0, agreement=1.0)
    x = tf.constant(np.linspace(-2.0, 3.0, 200_000, dtype=np.float32))
    for name, step in (("y1", 5 / 255), ("xhat0", 6 / 255)):
        off = (noisy._activation(name, x, True) - x).numpy()
        assert np.abs(off).max() == pytest.approx(3 * step, rel=0.01), name
        assert off.std() == pytest.approx(6 * step / 12**0.5, rel=0.02), name
        assert abs(off.mean()) < 0.01 * step * 6, name
    for name in ("scores0", "logits"):
        assert noisy._activation(name, x, True) is x


def test_outliers_learn_to_be_smaller(classifier):
    noisy = rounding_noise.NoisyClassifier(classifier, noise=8.0, agreement=1.0)
    x = tf.Variable(np.append(np.random.default_rng(0).normal(size=2000), 40.0).astype(np.float32))
    with tf.GradientTape() as tape:
        error = tf.reduce_sum((noisy._activation("y0", x, True) - x) ** 2)
    slope = tape.gradient(error, x).numpy()
    assert slope[-1] > 0 and slope[x.numpy().argmin()] < 0
    assert np.count_nonzero(np.abs(slope) > 1e-3) == 2


def test_noise_leaves_a_share_of_each_rows_mean_square(classifier):
    noisy = rounding_noise.NoisyClassifier(classifier, noise=60.0, agreement=1.0)
    x = tf.constant([[0.01, -0.01], [10.0, 0.0]])
    square = noisy._activation("sq0", x * x, True)
    mean = noisy._activation("ms0", tf.reduce_mean(square, axis=-1, keepdims=True), True)
    assert (mean.numpy()[:, 0] >= 0.3 * np.array([1e-4, 50.0]) * 0.999).all()
    assert mean.numpy()[1, 0] != 50.0


def test_every_activation_gets_noise_of_its_own(classifier, monkeypatch):
    seen = []
    call = rounding_noise.NoisyClassifier._activation

    def recorded(self, name, x, training):
        seen.append(name)
        return call(self, name, x, training)

    monkeypatch.setattr(rounding_noise.NoisyClassifier, "_activation", recorded)
    noisy = rounding_noise.NoisyClassifier(classifier, noise=8.0, agreement=2.0)
    logits = noisy(IDS, training=True)
    assert seen == folding.activation_names(classifier.config)
    assert logits.shape == (2, 3)
    assert not np.allclose(logits, classifier(IDS), atol=1e-6)
    assert float(noisy.losses[0]) > 0
    assert not np.array_equal(noisy(IDS, training=True), logits)


def test_disagreement_is_the_mean_of_both_divergences():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 5, 4)).astype(np.float32)

    def log_softmax(z):
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    p, q = log_softmax(one), log_softmax(other)
    expected = ((np.exp(p) * (p - q)).sum(1) + (np.exp(q) * (q - p)).sum(1)).mean() / 2
    got = rounding_noise.disagreement(tf.constant(one), tf.constant(other))
    assert float(got) == pytest.approx(expected, rel=1e-5)
    # A constant added to all logits of a text changes no probability; of a score it is a distance.
    moved = rounding_noise.disagreement(tf.constant(one), tf.constant(one + 1))
    assert float(moved) == pytest.approx(0.0, abs=1e-6)
    scores = tf.constant(one[:, :1]), tf.constant(one[:, :1] + 2)
    assert float(rounding_noise.disagreement(*scores)) == pytest.approx(4.0, rel=1e-5)


def test_training_with_noise_makes_noise_matter_less(classifier):
    ids = np.random.default_rng(1).integers(5, PRESETS["tiny"].vocab_size, (32, 9))
    ids[:, 0] = 2
    labels = tf.one_hot(ids[:, 1] % 3, 3)
    judge = rounding_noise.NoisyClassifier(classifier, noise=8.0, agreement=1.0)

    def fit(noise, epochs):
        tf.keras.utils.set_random_seed(0)
        model = rounding_noise.NoisyClassifier(classifier, noise, agreement=2.0)
        loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=tf.keras.optimizers.Adam(3e-3), loss=loss)
        model.fit(ids, labels, epochs=epochs, batch_size=32, verbose=0)
        answer = tf.nn.softmax(classifier(ids))
        assert np.mean(answer.numpy().argmax(1) == labels.numpy().argmax(1)) > 0.9
        draws = [tf.nn.softmax(judge.folded_logits(ids, True)) - answer for _ in range(8)]
        return float(np.mean(np.abs(draws)))

    before = classifier.get_weights()
    fit(0.0, 60)
    learnt = classifier.get_weights()
    more = fit(0.0, 60)
    classifier.set_weights(learnt)
    with_noise = fit(8.0, 60)
    classifier.set_weights(before)
    assert with_noise < 0.5 * more


def test_train_command_with_noise_leaves_an_ordinary_run(tmp_path, small_csv):
    flags = [f"--train={small_csv}", f"--output={tmp_path / 'run'}", "--preset=tiny", "--epochs=1"]
    done = run_module("embbert_tf.train", *flags, "--rounding_noise=8")
    assert done.returncode == 0, done.stderr
    loaded = run.load_run(tmp_path / "run")
    assert run.read_settings(tmp_path / "run")["training"]["rounding_noise"] == 8.0
    assert type(loaded.model).__name__ == "EmbBertClassifier"
    again = run_module("embbert_tf.train", *flags, "--rounding_noise=4")
    assert again.returncode == 1 and "other rounding_noise" in again.stderr
    wrong = run_module("embbert_tf.train", *flags, "--rounding_noise=-1")
    assert wrong.returncode != 0 and "rounding_noise" in wrong.stderr
