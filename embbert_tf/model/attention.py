"""Attention without key and value projections."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.model.linear import linear

# Added to the score of a padding key. Large enough that its softmax weight is exactly 0, small
# enough for a score to keep its sign.
MASKED = -1e9


@keras.utils.register_keras_serializable(package="embbert_tf")
class EfficientAttention(keras.layers.Layer):
    """Single-head attention whose keys and values are its input (arXiv 2502.10001, section 4).

    `Q = x·W_q + b_q; A = softmax(Q·xᵀ / √D); result = (A·x)·W_o + b_o`

    Padding keys get no weight; a row of only padding gives `b_o`.

    Example:
    ```python
    from embbert_tf.model.attention import EfficientAttention
    import tensorflow as tf

    layer = EfficientAttention(dropout=0.1)
    y = layer(tf.random.normal([1, 4, 16]))  # (1, 4, 16)
    y = layer(tf.random.normal([1, 4, 16]), first_row_only=True)  # (1, 1, 16), the same row 0
    ```

    Args:
        dropout: Probability of dropping an attention weight while training.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        x: float32 (batch, n, D).
        mask: bool (batch, n), False at padding; None if there is none.
        first_row_only: If True only the result's row 0 is computed.

    Returns:
        float32 (batch, n or 1, D).
    """

    def __init__(self, dropout: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        self.dropout = dropout
        self._drop = keras.layers.Dropout(dropout)

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the query and output projections."""
        size = input_shape[-1]
        self.query_kernel = self.add_weight(name="query_kernel", shape=(size, size))
        self.query_bias = self.add_weight(name="query_bias", shape=(size,), initializer="zeros")
        self.output_kernel = self.add_weight(
            name="output_kernel", shape=(size, size), initializer="orthogonal"
        )
        self.output_bias = self.add_weight(name="output_bias", shape=(size,), initializer="zeros")
        super().build(input_shape)

    def call(
        self,
        x: tf.Tensor,
        mask: tf.Tensor | None = None,
        first_row_only: bool = False,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Attends from each row, or row 0, to all rows."""
        queries = x[:, :1] if first_row_only else x
        queries = linear(queries, self.query_kernel) + self.query_bias
        scores = tf.matmul(queries, x, transpose_b=True) * (x.shape[-1] ** -0.5)
        if mask is not None:
            scores += MASKED * (1.0 - tf.cast(mask, scores.dtype))[:, tf.newaxis]
        weights = tf.nn.softmax(scores)
        if mask is not None:
            # Where every key is padding the softmax above is uniform instead of empty.
            any_key = tf.reduce_any(mask, axis=1)[:, tf.newaxis, tf.newaxis]
            weights *= tf.cast(any_key, weights.dtype)
        weights = self._drop(weights, training=training)
        return linear(weights @ x, self.output_kernel) + self.output_bias

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "dropout": self.dropout}
