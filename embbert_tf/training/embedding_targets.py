"""What a sentence encoder's student learns: a shorter embedding of each text, and how near two are.

With x the student's row of a text and y the teacher's, both of length 1, the loss of the text is
`1 - x·y + w·KL(softmax_j(y·y_j / T) ‖ softmax_j(x·x_j / T))`, j the other texts of the batch: the
direction itself, and the relations within the batch, in which near texts count most (T = 0.05).
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

_HELD_OUT = 13  # of 256 texts
_AT_ONCE = 1024  # rows whose neighbours are looked for together


def targets(rows: np.ndarray, width: int, neighbours: int) -> np.ndarray:
    """Returns what a student of fewer numbers learns of a teacher's embeddings.

    Each embedding becomes the mean of its neighbours' (a step of the graph filter of arXiv
    1902.07153), which draws texts of one meaning together and asks for no label. What all texts
    have in common, their mean, is taken away; of the rest the principal axes stay, each divided by
    the fourth root of its variance, so that the first do not outweigh all others.

    Args:
        rows: (count, d), of length 1.
        width: Numbers that are to stay; where d is less, zeros are added.
        neighbours: How many neighbours; 0 leaves the embeddings as they are.

    Returns:
        float32 (count, width), of length 1.
    """
    centred = _unit(_centred(rows.astype(np.float32)))
    if neighbours:
        centred = _centred(_smoothed(centred, min(neighbours, len(rows) - 1)))
    variances, axes = np.linalg.eigh(np.cov(centred.T.astype(np.float64)))
    order = np.argsort(variances)[::-1][:width]
    # Directions that hold nothing but rounding errors are not to be blown up.
    scales = np.maximum(variances[order], 1e-6 * variances[order[0]]) ** -0.25
    short = centred @ (axes[:, order] * scales).astype(np.float32)
    return _unit(np.pad(short, [(0, 0), (0, width - len(order))]))


def _centred(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(axis=0)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def _smoothed(rows: np.ndarray, neighbours: int) -> np.ndarray:
    """Returns of each row, of length 1, the mean of those near it, the nearest weighing most.

    Two rows are neighbours if either is among the nearest of the other; their weight is the cube of
    their cosine.
    """
    from scipy import sparse

    count = len(rows)
    columns = np.empty((count, neighbours), np.int64)
    weights = np.empty((count, neighbours), np.float32)
    for start in range(0, count, _AT_ONCE):
        part = slice(start, min(start + _AT_ONCE, count))
        cosines = rows[part] @ rows.T
        cosines[np.arange(part.stop - start), np.arange(start, part.stop)] = -1.0
        columns[part] = np.argpartition(-cosines, neighbours - 1, axis=1)[:, :neighbours]
        near = np.take_along_axis(cosines, columns[part], axis=1)
        weights[part] = np.maximum(near, 0.01) ** 3
    starts = np.arange(0, count * neighbours + 1, neighbours)
    graph = sparse.csr_matrix((weights.ravel(), columns.ravel(), starts), shape=(count, count))
    graph = graph + graph.T
    return np.asarray((graph @ rows) / graph.sum(axis=1), np.float32)


def held_out(text: str) -> bool:
    """Whether a text, one of twenty, measures and is not learnt from; the same in every stage."""
    return hashlib.sha256(text.encode()).digest()[0] < _HELD_OUT


def loss(relations: float) -> Callable[[Any, Any], Any]:
    """Returns the loss of (teacher's rows, rows) as Keras takes it, a value a text.

    Args:
        relations: w, the weight of the relations.
    """
    from embbert_tf.pretraining import likeness  # TensorFlow takes seconds to load.

    def compute(goal, rows):
        direction = 1.0 - likeness.cosines(rows, goal)
        if not relations:
            return direction
        return direction + relations * likeness.divergences(rows, goal)

    return compute


def mean_cosine(rows: np.ndarray, goals: np.ndarray) -> float:
    """Returns the mean cosine between rows and their goals, both (count, width)."""
    products = np.sum(rows * goals, axis=1)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(goals, axis=1)
    return float(np.mean(products / np.maximum(lengths, 1e-9)))
