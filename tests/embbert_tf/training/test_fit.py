"""The loop: averaged weights, which epoch stays, and how a training resumes."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from embbert_tf import errors
from embbert_tf.data import batches
from embbert_tf.model.classifier import EmbBertClassifier
from embbert_tf.model.config import PRESETS
from embbert_tf.training import checkpoint, distillation, fit, optimizer

LABELS = ["ask", "off", "on"]
# One layer, which is what the loop needs of a model.
CONFIG = dataclasses.replace(PRESETS["test"], num_layers=1, dropout=0.0)


def test_averages_follow_the_weights_and_leave_them_alone():
    weight = tf.Variable([1.0, -2.0])
    adam = optimizer.AdamW(0.1, weight_decay=0.0, ema=0.5)
    adam.build([weight])
    average = weight.numpy()
    for step in range(12):
        adam.apply_gradients([(tf.constant([1.0, -1.0]), weight)])
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight.numpy()
    last = weight.numpy()
    np.testing.assert_allclose(last, [1.0 - 1.2, -2.0 + 1.2], atol=1e-4)
    adam.finalize_variable_values([weight])
    np.testing.assert_array_equal(weight.numpy(), last)
    with adam.averaged([weight]):
        np.testing.assert_allclose(weight.numpy(), average, atol=1e-6)
    np.testing.assert_array_equal(weight.numpy(), last)


def test_decay_and_gradient_are_those_of_adamw():
    weights = [tf.Variable([1.0], name=name) for name in ("a", "bias")]
    adam = optimizer.AdamW(0.1, weight_decay=0.5)
    adam.exclude_from_weight_decay(var_names=["bias"])
    adam.apply_gradients([(tf.zeros([1]), w) for w in weights])
    np.testing.assert_allclose([w.numpy()[0] for w in weights], [0.95, 1.0], rtol=1e-6)
    restored = optimizer.AdamW.from_config(optimizer.AdamW(0.1, ema=0.5).get_config())
    assert restored.use_ema and restored.ema_momentum == 0.5


def test_steps_are_those_of_keras():
    # The same numbers as Keras's own optimizer, of dense gradients and of looked-up rows.
    rng = np.random.default_rng(1)
    table, matrix = (rng.normal(size=shape).astype(np.float32) for shape in ((6, 3), (3, 2)))
    options = {"learning_rate": fit.WarmupCosine(0.05, 8), "weight_decay": 0.1, "clipnorm": 1.0}
    results = []
    for kind in (keras.optimizers.AdamW, optimizer.AdamW):
        weights = [tf.Variable(table, name="table"), tf.Variable(matrix, name="bias")]
        adam = kind(**options)
        adam.exclude_from_weight_decay(var_names=["bias"])
        for step in range(8):
            with tf.GradientTape() as tape:
                rows = tf.gather(weights[0], [step % 6, 2, 2, 5])
                loss = tf.reduce_sum(tf.square(rows @ weights[1])) * 10.0 ** (step - 4)
            adam.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        results.append([weight.numpy() for weight in weights])
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(results[0][0] - table).max() > 0.1


def test_other_ways_to_clip_are_refused():
    for named in ({"clipvalue": 1.0}, {"global_clipnorm": 1.0}, {"amsgrad": True}):
        with pytest.raises(ValueError, match="neither amsgrad"):
            optimizer.AdamW(0.1, **named)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path, eager):
    model = EmbBertClassifier(CONFIG, 3)
    model.head.set_weights([np.full((16, 3), np.nan, np.float32), np.zeros(3, np.float32)])
    data = [[2, 7, 9]] * 8, np.zeros(8, np.int64)
    settings = fit.Settings(epochs=2, batch_size=4, learning_rate=1e-3, weight_decay=0.0)
    with pytest.raises(fit.DivergenceError, match=r"t: epoch 1: .* at step 2 of 2; .*learning"):
        fit.fit(model, data, data, settings, checkpoint=tmp_path / "a", label="t", labels=LABELS)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("content", [b"", b"PK no archive", None])
def test_a_checkpoint_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "a.npz"
    if content is None:
        np.savez(path, m0=np.zeros(2))
    else:
        path.write_bytes(content)
    model = EmbBertClassifier(CONFIG, 3)
    before = model.get_weights()
    with pytest.raises(errors.FileError, match="delete it to start the training anew"):
        checkpoint.load_state(path, model, optimizer.AdamW(0.1))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_tuner_holds_up_the_end_of_an_epoch():
    made = batches.dataset([[2, 7]] * 4, np.arange(4), 2, (0, 0))
    assert made.options().autotune.enabled is False


def _small_fit(path, epochs_before_the_kill=None, keep="best", shift=0, patience=4):
    keras.utils.set_random_seed(3)
    model = EmbBertClassifier(CONFIG, 3, dropout=0.0)
    rng = np.random.default_rng(0)
    ids = [[2, *rng.integers(5, 250, rng.integers(1, 20))] for _ in range(60)]
    targets = np.array([int(i[1]) % 3 for i in ids[:50]] + [-1] * 10)
    taught = distillation.softmax(rng.normal(size=(60, 3))).astype(np.float32)

    made = batches.dataset

    def dataset(*arguments, **named):
        if arguments[3][1] == epochs_before_the_kill:
            raise InterruptedError
        return made(*arguments, **named)

    batches.dataset = dataset
    try:
        settings = fit.Settings(
            epochs=4, batch_size=8, learning_rate=1e-2, weight_decay=0.05, token_dropout=0.1,
            vocab_size=256, ema=0.9, patience=patience, keep=keep,
        )  # fmt: skip
        history = fit.fit(
            model, (ids, targets), (ids[:50], (targets[:50] + shift) % 3), settings,
            checkpoint=path, label="t", labels=LABELS,
            teaching=distillation.Teaching(taught, 0.5, 2.0),
        )  # fmt: skip
    except InterruptedError:
        return None
    finally:
        batches.dataset = made
    return history, model.get_weights()


@pytest.mark.slow
def test_a_resumed_training_is_the_same_training(tmp_path):
    history, weights = _small_fit(tmp_path / "a.npz")
    assert _small_fit(tmp_path / "b.npz", epochs_before_the_kill=2) is None
    again, resumed = _small_fit(tmp_path / "b.npz")
    assert [h["best"] for h in again] == [h["best"] for h in history]
    np.testing.assert_allclose([h["loss"] for h in again], [h["loss"] for h in history], rtol=1e-4)
    for a, b in zip(weights, resumed, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.slow
def test_kept_weights_are_the_averaged_ones(tmp_path):
    history, weights = _small_fit(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as state:
        last = [state[f"m{i}"] for i in range(len(weights))]
        best = [state[f"b{i}"] for i in range(len(weights))]
    assert any(h["best"] for h in history)
    for kept, expected in zip(weights, best, strict=True):
        np.testing.assert_array_equal(kept, expected)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(best, last, strict=True))


@pytest.mark.slow
def test_the_last_epoch_stays_if_asked_for(tmp_path):
    # Measured by other classes than it learns, a model gets worse.
    history, best = _small_fit(tmp_path / "a.npz", shift=1)
    again, last = _small_fit(tmp_path / "b.npz", keep="last", shift=1, patience=1)
    assert again == history and not history[-1]["best"]
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(best, last, strict=True))
    with np.load(tmp_path / "a.npz") as state:
        moving = [state[f"m{i}"] for i in range(len(last))]
    # The average of the last epoch lies nearer to where the last step went than the best one's.
    distances = [
        np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(kept, moving, strict=True)))
        for kept in (last, best)
    ]
    assert distances[0] < 0.5 * distances[1]
