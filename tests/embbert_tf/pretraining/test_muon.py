"""Muon's step, and what it leaves to AdamW."""

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf.pretraining import muon


def test_all_directions_move_about_equally_far():
    random = np.random.default_rng(0)
    for size in (4, 16, 128):
        matrix = random.normal(size=(size, size)).astype(np.float32)
        u, values, v = np.linalg.svd(matrix)
        # Directions below a thousandth of the norm would take more than five steps.
        matrix = (u * np.maximum(values, values[0] / 100)) @ v
        result = muon.orthogonalized(tf.constant(matrix, tf.float32)).numpy()
        values = np.linalg.svd(result, compute_uv=False)
        assert values.min() > 0.6 and values.max() < 1.3
        # Nothing is rotated: the result has the same singular vectors.
        core = u.T @ result @ v.T
        assert np.abs(core - np.diag(np.diag(core))).max() < 1e-3


def test_square_matrices_take_muons_step_and_all_else_adamws():
    random = np.random.default_rng(1)
    shapes = [(4, 4), (4, 3), (4,)]
    starts = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    gradients = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    settings = {"learning_rate": 0.01, "weight_decay": 0.0}

    def stepped(optimizer, steps=2):
        variables = [tf.Variable(start) for start in starts]
        for _ in range(steps):
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return [variable.numpy() for variable in variables]

    adamw = stepped(keras.optimizers.AdamW(**settings))
    mine = stepped(muon.Muon(**settings, muon_ratio=5.0))
    np.testing.assert_array_equal(mine[1], adamw[1])
    np.testing.assert_array_equal(mine[2], adamw[2])
    expected, momentum = starts[0].copy(), np.zeros((4, 4), np.float32)
    for _ in range(2):
        momentum = 0.95 * momentum + gradients[0]
        direction = muon.orthogonalized(tf.constant(gradients[0] + 0.95 * momentum))
        expected -= 0.05 * direction.numpy()
    np.testing.assert_allclose(mine[0], expected, atol=1e-6)
    np.testing.assert_array_equal(stepped(muon.Muon(**settings))[0], adamw[0])


def test_averages_follow_the_weights_and_the_constructors_arguments_come_back():
    variable = tf.Variable(np.eye(2, dtype=np.float32))
    optimizer = muon.Muon(0.1, weight_decay=0.0, muon_ratio=1.0, ema=0.5)
    average = variable.numpy()
    for step in range(8):
        optimizer.apply_gradients([(tf.constant([[1.0, 2.0], [3.0, 5.0]]), variable)])
        kept = min(0.5, (1 + step) / (10 + step))
        average = kept * average + (1 - kept) * variable.numpy()
    own = variable.numpy()
    with optimizer.averaged([variable]):
        np.testing.assert_allclose(variable.numpy(), average, atol=1e-6)
    np.testing.assert_array_equal(variable.numpy(), own)
    again = muon.Muon.from_config(optimizer.get_config())
    assert again.muon_ratio == 1.0 and again.get_config()["ema"] == 0.5
