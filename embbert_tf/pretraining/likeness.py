"""How like a sentence encoder's rows of a batch of texts a student's are."""

import tensorflow as tf

_TEMPERATURE = 0.05  # Of the relations, so that near texts count most.


def cosines(rows: tf.Tensor, goals: tf.Tensor) -> tf.Tensor:
    """Returns the cosine of each row with its goal, float32 (count,).

    Args:
        rows: The student's, float32 (count, d).
        goals: The encoder's, of the same shape.
    """
    return tf.reduce_sum(tf.nn.l2_normalize(rows, 1) * tf.nn.l2_normalize(goals, 1), axis=1)


def divergences(rows: tf.Tensor, goals: tf.Tensor) -> tf.Tensor:
    """Returns KL(relations of the goals ‖ relations of the rows) of each text, float32 (count,).

    A text's relations are the softmax of its cosines with the other texts, at temperature 0.05.

    Args:
        rows: As for `cosines`.
        goals: Likewise.
    """
    wanted, found = _relations(goals), _relations(rows)
    return tf.reduce_sum(tf.exp(wanted) * (wanted - found), axis=1)


def _relations(rows: tf.Tensor) -> tf.Tensor:
    rows = tf.nn.l2_normalize(rows, 1)
    products = tf.matmul(rows, rows, transpose_b=True) / _TEMPERATURE
    # A text is no neighbour of its own.
    return tf.nn.log_softmax(tf.linalg.set_diag(products, tf.fill([tf.shape(rows)[0]], -1e9)))
