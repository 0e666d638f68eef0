"""The mean of static embeddings of words and pairs of words with a linear model, in int8.

As fastText's classifier (arXiv 1607.01759), trained by Keras.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from converters.benchmarks.small_models import features
from embbert_tf import cli
from embbert_tf.data import examples as examples_lib

WIDTH = 16
_EPOCHS = 30
_PATIENCE = 3
_BATCH = 64
_RATE = 3e-3
_HELD_OUT = 0.1


def _padded(texts: Sequence[str], known: np.ndarray) -> np.ndarray:
    """Returns indices + 1, padded with 0 (texts, the most features)."""
    rows = [features.indices(text, known) for text in texts]
    ids = np.zeros((len(rows), max(1, *map(len, rows))), np.int32)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row + 1
    return ids


@dataclasses.dataclass(frozen=True)
class MeanEmbeddings:
    """The fp32 model.

    Attributes:
        vocabulary: uint32 (features), as `features.vocabulary` gives it.
        labels: Names of the classes.
        table: (features, WIDTH)
        head: (labels, WIDTH)
        biases: (labels)
    """

    vocabulary: np.ndarray
    labels: tuple[str, ...]
    table: np.ndarray
    head: np.ndarray
    biases: np.ndarray

    @classmethod
    def train(cls, texts: Sequence[str], answers: Sequence[str], seed: int = 0) -> "MeanEmbeddings":
        """Fits the model; a tenth of the rows, held out, says when to stop.

        Args:
            texts: Training texts.
            answers: Their labels, two different ones at least.
            seed: Of initial weights, order and the rows held out.
        """
        cli.quiet()
        import tensorflow as tf  # the others need none of it

        tf.keras.utils.set_random_seed(seed)
        known = features.vocabulary(texts)
        labels = tuple(sorted(set(answers)))
        rows = [
            examples_lib.Example(text, None, answer)
            for text, answer in zip(texts, answers, strict=True)
            if len(features.indices(text, known))  # nothing has no mean
        ]
        parts = examples_lib.split(rows, _HELD_OUT, seed)
        x, held_x = (_padded([e.text for e in part], known) for part in parts)
        y, held_y = (np.array([labels.index(e.label) for e in part]) for part in parts)
        layers = tf.keras.layers
        ids = tf.keras.Input([None], dtype=tf.int32)
        embedding = layers.Embedding(len(known) + 1, WIDTH, mask_zero=True)
        pooled = layers.Dropout(0.3)(layers.GlobalAveragePooling1D()(embedding(ids)))
        head = layers.Dense(len(labels))
        model = tf.keras.Model(ids, head(pooled))
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(tf.keras.optimizers.Adam(_RATE), loss, metrics=["accuracy"])
        stop = tf.keras.callbacks.EarlyStopping(
            "val_accuracy", patience=_PATIENCE, restore_best_weights=True
        )
        model.fit(
            x, y, _BATCH, _EPOCHS, verbose=0, callbacks=[stop], validation_data=(held_x, held_y)
        )
        kernel, biases = head.get_weights()
        return cls(known, labels, embedding.get_weights()[0][1:], kernel.T, biases)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Returns the labels in fp32."""
        counted = features.counts(texts, self.vocabulary)
        sums = np.asarray(counted @ self.table)
        means = sums / np.maximum(np.asarray(counted.sum(axis=1)), 1)
        return [self.labels[i] for i in np.argmax(means @ self.head.T + self.biases, axis=1)]

    def quantize(self) -> "Int8MeanEmbeddings":
        """Rounds the model to the device's integers."""
        table_scale = np.abs(self.table).max() / 127 or 1.0
        head_scale = np.abs(self.head).max() / 127 or 1.0
        return Int8MeanEmbeddings(
            vocabulary=self.vocabulary,
            labels=self.labels,
            rows=np.round(self.table / table_scale).astype(np.int8),
            head=np.round(self.head / head_scale).astype(np.int8),
            biases=np.round(self.biases / (table_scale * head_scale)).astype(np.int32),
        )


@dataclasses.dataclass(frozen=True)
class Int8MeanEmbeddings:
    """The integers of tflm_app/small_models/embeddings.c.

    Attributes:
        vocabulary: uint32 (features), as `features.vocabulary` gives it.
        labels: Names of the classes.
        rows: int8 (features, WIDTH)
        head: int8 (labels, WIDTH)
        biases: int32 (labels)
    """

    vocabulary: np.ndarray
    labels: tuple[str, ...]
    rows: np.ndarray
    head: np.ndarray
    biases: np.ndarray

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return self.rows.shape[1]

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Returns the labels, as the device says them."""
        answers = []
        for text in texts:
            found = features.indices(text, self.vocabulary)
            sums = self.rows[found].astype(np.int64).sum(axis=0)
            scores = self.head.astype(np.int64) @ sums
            scores += self.biases.astype(np.int64) * max(len(found), 1)
            answers.append(self.labels[np.argmax(scores)])
        return answers

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays that tflm_app/small_models/small_model.h names."""
        return {
            "vocabulary": self.vocabulary,
            "rows": self.rows,
            "head": self.head,
            "biases": self.biases,
        }
