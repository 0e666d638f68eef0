"""A model's first head, from what a pre-trained backbone says of the training texts.

A random head on large rows begins far worse than chance, and what its first steps undo in the
backbone a few dozen texts do not bring back.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorflow import keras

from embbert_tf.baselines.classifier import BaselineClassifier
from embbert_tf.data import batches

_MOST_ROWS = 2048  # Means of so many are as good as of all.
_BATCH = 256
_RIDGE = 0.01  # Of the rows' mean variance.
_SPREAD = 2.0  # Standard deviation of the logits: a lead for the nearest class, and no more.


def set_head(
    model: keras.Model, sequences: Sequence[Sequence[int]], targets: np.ndarray, seed: int
) -> None:
    """Lets the head begin as a classifier by the nearest class mean of the `[CLS]` rows.

    Args:
        model: A classifier with a pre-trained backbone.
        sequences: Token ids of the training texts.
        targets: int (count,), their classes; each class has a text.
        seed: Of the draw, where there are more than a few texts a class.
    """
    labels = model.num_labels
    most = max(_MOST_ROWS // labels, 1)
    draw = np.random.default_rng([seed, 7])
    chosen = np.concatenate(
        [draw.permutation(np.flatnonzero(targets == label))[:most] for label in range(labels)]
    )
    chosen = np.array(sorted(chosen, key=lambda index: len(sequences[index])))
    rows_of = first_rows(model)
    parts = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]
    rows = [
        rows_of(batches.pad([sequences[index] for index in part]), training=False).numpy()
        for part in parts
    ]
    model.head.set_weights(nearest_mean(np.concatenate(rows), targets[chosen], labels))


def first_rows(model: Any) -> Any:
    """Returns the part of a classifier before its head: ids to rows, (count, D)."""
    if isinstance(model, BaselineClassifier):
        return model.rows
    return keras.Model(model.inputs, model.head.input)


def nearest_mean(
    rows: np.ndarray, targets: np.ndarray, labels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the linear classifier by the nearest class mean.

    Args:
        rows: float32 (count, D).
        targets: int (count,), in 0..labels-1.
        labels: L. A class without a row has the mean of all rows.

    Returns:
        Kernel float32 (D, L) and bias float32 (L,). Their logits are the log odds of classes with
        normal rows of one spread, scaled to a standard deviation of 2 over the rows.
    """
    rows = rows.astype(np.float64)
    center = rows.mean(axis=0)
    means = np.stack(
        [
            rows[targets == label].mean(axis=0) if (targets == label).any() else center
            for label in range(labels)
        ]
    )
    kernel = (means - center).T
    bias = -0.5 * np.sum((means - center) ** 2, axis=1) - center @ kernel
    scale = _SPREAD / max(np.std(rows @ kernel + bias), 1e-9)
    return (scale * kernel).astype(np.float32), (scale * bias).astype(np.float32)


def least_squares(rows: np.ndarray, goals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel and bias of the linear map from rows to goals with the least square error.

    Args:
        rows: (count, D), a backbone's.
        goals: (count, width).

    Returns:
        float32 (D, width) and (width,).
    """
    rows, goals = rows.astype(np.float64), goals.astype(np.float64)
    mean, centred = rows.mean(axis=0), rows - rows.mean(axis=0)
    squares = centred.T @ centred
    ridge = _RIDGE * np.trace(squares) / len(squares) * np.eye(len(squares))
    kernel = np.linalg.solve(squares + ridge, centred.T @ (goals - goals.mean(axis=0)))
    bias = goals.mean(axis=0) - mean @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32)
