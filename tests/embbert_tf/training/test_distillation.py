"""The loss of a teacher's probabilities beside the labels."""

import numpy as np
import tensorflow as tf

from embbert_tf.training import distillation

LABELS = ["ask", "off", "on"]


def test_loss_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3)).astype(np.float32)
    taught = distillation.softmax(rng.normal(size=(4, 3))).astype(np.float32)
    taught[3] = np.nan
    targets = np.array([0, 2, -1, 1])
    teaching = distillation.Teaching(taught, 0.3, 2.0)
    goal = distillation.goals(targets, LABELS, teaching)
    got = distillation.loss(LABELS, 0.1, 2.0)(tf.constant(goal), tf.constant(logits)).numpy()

    label = np.log(distillation.softmax(logits))
    own = [-0.9 * label[i, t] - 0.1 * label[i].mean() for i, t in enumerate(targets)]
    soft = np.sqrt(taught) / np.sqrt(taught).sum(1, keepdims=True)
    kl = (soft * (np.log(soft) - np.log(distillation.softmax(logits / 2)))).sum(1)
    expected = [0.7 * own[0] + 1.2 * kl[0], 0.7 * own[1] + 1.2 * kl[1], 1.2 * kl[2], own[3]]
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_loss_is_least_where_the_student_agrees():
    taught = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]], np.float32)
    goal = tf.constant(
        distillation.goals([-1, -1], LABELS, distillation.Teaching(taught, 1.0, 3.0))
    )
    logits = tf.constant(np.log(np.maximum(taught, 1e-30)))
    compute = distillation.loss(LABELS, 0.0, 3.0)
    np.testing.assert_allclose(compute(goal, logits), 0.0, atol=1e-5)
    assert (compute(goal, logits + tf.constant([100.0, 0.0, 0.0])).numpy() > 0.001).all()


def test_loss_of_a_regression():
    teaching = distillation.Teaching(np.array([[3.0], [np.nan], [1.0]], np.float32), 0.25)
    goal = distillation.goals([2.0, 4.0, np.nan], [], teaching)
    got = distillation.loss([], 0.0, 1.0)(tf.constant(goal), tf.constant([[1.0], [1.0], [3.0]]))
    np.testing.assert_allclose(got, [0.75 * 1 + 0.25 * 4, 9.0, 0.25 * 4])
