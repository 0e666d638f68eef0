"""Batches: their order, their width, what is dropped, and predictions put back in order."""

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf.data import batches


def _texts(count):
    rng = np.random.default_rng(0)
    return [[2, *rng.integers(5, 250, rng.integers(0, 20))] for _ in range(count)]


def test_an_epoch_has_every_text_once_in_batches_as_wide_as_the_longest():
    texts = _texts(45)
    seen = []
    for ids, targets in batches.dataset(texts, np.arange(45), 8, (0, 0)).as_numpy_iterator():
        assert ids.shape[1] == max(len(texts[i]) for i in targets)
        for row, i in zip(ids, targets, strict=True):
            assert row.tolist() == texts[i] + [0] * (len(row) - len(texts[i]))
        seen += targets.tolist()
    assert sorted(seen) == list(range(45)) and seen != sorted(seen)


def test_the_seeds_alone_decide_on_order_and_dropped_tokens():
    def epoch(*seeds):
        made = batches.dataset(_texts(45), np.arange(45), 8, seeds, 0.3, 250)
        return [ids.tolist() for ids, _ in made.as_numpy_iterator()]

    assert epoch(0, 1) == epoch(0, 1)
    assert epoch(0, 1) != epoch(0, 2)


def test_dropped_tokens_are_the_share_asked_for_and_no_special_ones():
    ids = np.tile(np.array([2, 4, 9, 9, 9, 9, 0], np.int32), (500, 1))
    dropped = ids.copy()
    batches.drop_tokens(dropped, 0.25, 250, np.random.default_rng(0))
    np.testing.assert_array_equal(dropped[:, [0, 1, 6]], ids[:, [0, 1, 6]])
    changed = dropped[:, 2:6][dropped[:, 2:6] != 9]
    assert abs(changed.size / 2000 - 0.25) < 0.03
    assert abs((changed == 1).mean() - 0.7) < 0.06 and changed.max() < 250


class _Counter(keras.Model):
    """Answers with the sum and the count of the ids; counts how often it is traced."""

    traces = 0

    def call(self, ids):
        self.traces += 1
        real = tf.cast(ids != 0, tf.float32)
        return tf.stack([tf.reduce_sum(tf.cast(ids, tf.float32), 1), tf.reduce_sum(real, 1)], 1)


def test_predictions_come_in_the_order_of_the_texts_from_a_function_built_once():
    model, texts = _Counter(), _texts(45)
    expected = [[sum(ids), len(ids)] for ids in texts]
    np.testing.assert_array_equal(batches.predict(model, texts, batch_size=8), expected)
    traces = model.traces
    np.testing.assert_array_equal(batches.predict(model, texts), expected)
    np.testing.assert_array_equal(batches.predict(model, texts[:1]), expected[:1])
    assert model.traces == traces
    # As after `fit`, where several steps are taken at once and the last ones are fewer.
    model.compile(steps_per_execution=4)
    np.testing.assert_array_equal(batches.predict(model, texts, batch_size=8), expected)
