"""The operations that the compared models are made of, in float."""

from typing import Any

import tensorflow as tf

from embbert_tf.baselines import scan as scan_lib
from embbert_tf.model import attention as attention_lib
from embbert_tf.model import convolution as convolution_lib
from embbert_tf.model import special_tokens
from embbert_tf.model.linear import linear

# A root mean square needs it for its gradient alone.
_LEAST_SQUARE = 1e-9


class TensorOps:
    """Computes a model on one batch of token ids.

    Each result that is int8 on a device has a name. A subclass says what becomes of it there
    (`activation`), and of weights (`weight`) and of softmax weights and sigmoids (`share`).

    Shapes: batch, n tokens, D channels.

    Example:
    ```python
    import embbert_tf
    from embbert_tf.baselines import ops
    import tensorflow as tf

    x = ops.TensorOps(tf.constant([[2, 7, 9, 0]])).multiply("square", tf.ones([1, 4, 8]), 2.0)
    ```

    Args:
        ids: int32 (batch, n), `[PAD]` = 0 at the end.
        training: Whether to drop values.
        dropout: Probability of dropping one.
        attend_to_padding: Whether padding counts.
    """

    def __init__(
        self,
        ids: tf.Tensor,
        training: bool | None = None,
        dropout: float = 0.0,
        attend_to_padding: bool = False,
    ):
        self.ids = tf.cast(ids, tf.int32)
        self.training, self.dropout = training, dropout
        if attend_to_padding:
            self.mask = tf.ones_like(self.ids, tf.float32)
        else:
            self.mask = tf.cast(self.ids != special_tokens.PAD, tf.float32)

    # ---- What a device changes -----------------------------------------------------------------

    def activation(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Returns what becomes of an activation; `x`'s shape."""
        del name
        return x

    def weight(self, name: str, w: tf.Tensor, channels: bool = True) -> tf.Tensor:
        """Returns what becomes of a weight, with a scale for each index of its last axis or one."""
        del name, channels
        return w

    def share(self, x: tf.Tensor) -> tf.Tensor:
        """Returns what becomes of numbers between 0 and 1."""
        return x

    # ---- Operations ----------------------------------------------------------------------------

    def read(self, variable: tf.Variable) -> tf.Tensor:
        """Returns the value of a weight."""
        return tf.convert_to_tensor(variable)

    def drop(self, x: tf.Tensor) -> tf.Tensor:
        """Drops some values in training."""
        return tf.nn.dropout(x, self.dropout) if self.training and self.dropout else x

    def first(self, x: tf.Tensor) -> tf.Tensor:
        """Returns row 0 alone, (batch, 1, D)."""
        # Said, as TensorFlow forgets it where n is unknown: a single row is never padding.
        return tf.ensure_shape(x[:, :1], [x.shape[0], 1, x.shape[2]])

    def embed(
        self,
        name: str,
        table: tf.Tensor,
        expander: tf.Tensor | None,
        places: tf.Tensor,
        segments: tf.Tensor,
    ) -> tf.Tensor:
        """Returns token, position and segment embedding.

        Args:
            name: Of the result.
            table: (V, R) tokens, or (V, D) without `expander`.
            expander: (R, D), or None.
            places: (S, D) positions.
            segments: (3, D): padding, first text, second text.
        """
        x = tf.gather(self.weight("table", table, channels=False), self.ids)
        if expander is not None:
            x = self.dense("token", x, expander, None)
        # On a device a row for each position in each segment: one table, and one sum.
        n = tf.shape(self.ids)[1]
        rows = places[:n] + segments[:, tf.newaxis]
        rows = self.weight("place", rows, channels=False)
        seen = tf.cumsum(tf.cast(self.ids == special_tokens.SEP, tf.int32), axis=1)
        segment = tf.where(self.ids == special_tokens.PAD, 0, 1 + tf.minimum(seen, 1))
        x += tf.gather(tf.reshape(rows, [-1, rows.shape[-1]]), segment * n + tf.range(n))
        return self.activation(name, x)

    def dense(
        self, name: str, x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None, relu: bool = False
    ) -> tf.Tensor:
        """Returns `x · kernel + bias`, (batch, n, out), with `relu` nothing below 0."""
        y = linear(x, self.weight(name, kernel, channels=False))
        y = y if bias is None else y + bias
        return self.activation(name, tf.nn.relu(y) if relu else y)

    def add(self, name: str, x: tf.Tensor, y: Any) -> tf.Tensor:
        """Returns the sum."""
        return self.activation(name, x + y)

    def subtract(self, name: str, x: tf.Tensor, y: Any) -> tf.Tensor:
        """Returns the difference."""
        return self.activation(name, x - y)

    def multiply(self, name: str, x: tf.Tensor, y: Any) -> tf.Tensor:
        """Returns the product, element by element."""
        return self.activation(name, x * y)

    def scale(self, name: str, x: tf.Tensor, gain: tf.Tensor) -> tf.Tensor:
        """Returns each channel times a weight, gain (D,)."""
        return self.activation(name, x * self.weight(name, gain, channels=False))

    def mean(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Returns the mean of each row, (batch, n, 1)."""
        return self.activation(name, tf.reduce_mean(x, axis=-1, keepdims=True))

    def inverse_root(self, name: str, x: tf.Tensor, epsilon: float) -> tf.Tensor:
        """Returns `1 / sqrt(x + epsilon)`."""
        return self.activation(name, tf.math.rsqrt(x + epsilon))

    def shares(self, name: str, queries: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Returns softmax weights (batch, n, n) of scores of the name `name`."""
        hidden = attention_lib.MASKED * (1.0 - self.mask)[:, tf.newaxis]
        return self.drop(tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True) + hidden))

    def values(self, name: str, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the values that `weigh` takes."""
        return self.activation(name, linear(x, self.weight(name, kernel, channels=False)))

    def columns(self, x: tf.Tensor) -> tf.Tensor:
        """Returns rows as the values that `weigh` takes."""
        return x

    def weigh(self, name: str, shares: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Returns the weighted sums of values."""
        return self.activation(name, shares @ values)

    def join(self, parts: list[tf.Tensor]) -> tf.Tensor:
        """Returns parts of one name side by side."""
        return tf.concat(parts, axis=-1)

    def convolution(self, name: str, x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """Returns the causal depthwise convolution; kernel (K, D), its last tap for the present."""
        taps = self.weight(name, kernel)
        y = convolution_lib.causal_depthwise(x, taps[:, :, tf.newaxis]) + bias
        return self.activation(name, y)

    def silu(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Returns `x · sigmoid(x)`."""
        return self.activation(name, x * self.share(tf.sigmoid(x)))

    def scan(
        self,
        name: str,
        u: tf.Tensor,
        steps: tf.Tensor,
        state_in: tf.Tensor,
        state_out: tf.Tensor,
        log_decay: tf.Tensor,
        skip: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the selective scan plus `skip` times `u`.

        Args:
            name: Of the result.
            u: As the other three, of `scan.selective_scan`, which says the shapes.
            steps: Likewise.
            state_in: Likewise.
            state_out: Likewise.
            log_decay: (ED, N), the logarithm of -A.
            skip: (ED,).
        """
        y = scan_lib.selective_scan(u, steps, state_in, state_out, -tf.exp(log_decay))
        return self.activation(name, y + skip * u)

    def pool(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the root mean square of each channel over the tokens, (batch, 1, D)."""
        square = self.multiply("square", x, x) * self.mask[:, :, tf.newaxis]
        count = tf.reduce_sum(self.mask, axis=1)[:, tf.newaxis, tf.newaxis]
        mean = self.activation("pooled", tf.reduce_sum(square, axis=1, keepdims=True) / count)
        inverse = self.inverse_root("root", mean, _LEAST_SQUARE)
        return self.multiply("rms", mean, inverse)
