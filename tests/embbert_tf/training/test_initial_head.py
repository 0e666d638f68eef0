"""The first head of a classifier on a pre-trained backbone."""

import numpy as np
import tensorflow as tf

import embbert_tf
from embbert_tf.training import initial_head


def test_the_nearest_class_mean_wins():
    random = np.random.default_rng(0)
    means = random.normal(size=(5, 12)) * 3 + 40  # Rows far from 0, as a backbone's are.
    targets = random.integers(0, 4, 300)  # No row is of class 4.
    rows = (means[targets] + random.normal(size=(300, 12))).astype(np.float32)
    kernel, bias = initial_head.nearest_mean(rows, targets, 5)
    logits = rows @ kernel + bias
    found = np.stack([rows[targets == label].mean(axis=0) for label in range(4)])
    nearest = ((rows[:, np.newaxis] - found) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(logits[:, :4].argmax(axis=1), nearest)
    assert abs(logits.std() - 2) < 1e-3
    assert kernel.shape == (12, 5) and kernel.dtype == bias.dtype == np.float32


def test_rows_that_are_all_alike_give_finite_logits():
    kernel, bias = initial_head.nearest_mean(np.ones((6, 3), np.float32), np.arange(6) % 2, 2)
    assert not kernel.any() and not bias.any()


def test_a_model_begins_with_what_its_backbone_tells_apart():
    tf.random.set_seed(0)
    model = embbert_tf.EmbBertClassifier(embbert_tf.PRESETS["test"], num_labels=3)
    random = np.random.default_rng(1)
    targets = random.integers(0, 3, 40)
    texts = [[2, *random.integers(10, 200, random.integers(1, 9))] for _ in targets]
    initial_head.set_head(model, texts, targets, seed=0)
    rows = np.concatenate([model.backbone(np.array([text]))[:, 0].numpy() for text in texts])
    expected = initial_head.nearest_mean(rows, targets, 3)
    for found, right in zip(model.head.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-4)
