"""Distillation: a teacher's probabilities as a second target, also of texts without a label.

The loss of a text is `(1-w)·CE(label) + w·T²·KL(teacher^(1/T) ‖ softmax(logits/T))` (Hinton et
al., arXiv 1503.02531), of a score `(1-w)·(label-score)² + w·(teacher-score)²`. A text without a
label has the teacher's term alone, a text of which the teacher says nothing the label's alone, at
its full weight.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Teaching:
    """What the teacher says of each training text.

    Attributes:
        values: float32 (count, L) probabilities, or (count, 1) scores; NaN where it says nothing.
        weight: w, the share of its term.
        temperature: T; above 1 the small probabilities count more. Not used by a regression.
    """

    values: np.ndarray
    weight: float
    temperature: float = 1.0


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities, the shape of `logits`."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def joined(
    encoded: tuple[list[list[int]], np.ndarray], more: list[list[int]], labels: Sequence[str]
) -> tuple[list[list[int]], np.ndarray]:
    """Returns texts with and without a label as one training set.

    Args:
        encoded: Token ids, and targets as `goals` takes them, of the texts with one.
        more: Token ids of those without.
        labels: Class names; empty for a regression.
    """
    ids, targets = encoded
    absent = np.full(len(more), -1 if labels else np.nan, targets.dtype)
    return ids + more, np.concatenate([targets, absent])


def goals(targets: np.ndarray, labels: Sequence[str], teaching: Teaching) -> np.ndarray:
    """Returns what `loss` takes: float32 (count, 2L+2), label, teacher and the weight of either.

    Args:
        targets: Class indices, -1 where there is no label; or scores, NaN where there is none.
        labels: Class names; empty for a regression.
        teaching: Of the same texts.
    """
    targets = np.asarray(targets)
    told = np.isfinite(teaching.values).all(axis=1)
    if labels:
        labelled = targets >= 0
        label = np.eye(len(labels), dtype=np.float32)[np.maximum(targets, 0)]
        taught = np.where(told[:, np.newaxis], teaching.values, 1 / len(labels))
        # To the power of 1/T here and once, as it does not change.
        taught = taught.astype(np.float64) ** (1 / teaching.temperature)
        taught /= taught.sum(axis=1, keepdims=True)
    else:
        labelled = np.isfinite(targets)
        label = np.where(labelled, targets, 0)[:, np.newaxis]
        taught = np.where(told[:, np.newaxis], teaching.values, 0)
    shares = [
        labelled * np.where(told, 1 - teaching.weight, 1),
        told * teaching.weight,
    ]
    return np.concatenate([label, taught, np.stack(shares, 1)], axis=1).astype(np.float32)


def loss(
    labels: Sequence[str], label_smoothing: float, temperature: float
) -> Callable[[Any, Any], Any]:
    """Returns the loss of (goals, logits) as Keras takes it, a value a text.

    Args:
        labels: Class names; empty for a regression.
        label_smoothing: Share of the label's target spread over all classes.
        temperature: T.
    """
    import tensorflow as tf

    width = max(len(labels), 1)

    def compute(goal, logits):
        label, taught = goal[:, :width], goal[:, width : 2 * width]
        if not labels:
            terms = tf.square(label - logits)[:, 0], tf.square(taught - logits)[:, 0]
        else:
            label = label * (1 - label_smoothing) + label_smoothing / width
            own = tf.nn.softmax_cross_entropy_with_logits(label, logits)
            soft = tf.nn.softmax_cross_entropy_with_logits(taught, logits / temperature)
            entropy = -tf.reduce_sum(tf.math.xlogy(taught, taught), axis=1)
            terms = own, temperature**2 * (soft - entropy)
        return goal[:, -2] * terms[0] + goal[:, -1] * terms[1]

    return compute
