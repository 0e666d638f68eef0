"""A layer of BERT."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.baselines import initializers, norm
from embbert_tf.baselines.ops import TensorOps

# Gain and shift of the normalization before, (D,) each: what a layer reads is gain * x + shift.
Affine = tuple[tf.Tensor, tf.Tensor]


@keras.utils.register_keras_serializable(package="embbert_tf")
class TransformerLayer(keras.layers.Layer):
    """`torch.nn.TransformerEncoderLayer` with its defaults: post-norm, ReLU.

    `x <- LN(x + attention(x)); x <- LN(x + W2·ReLU(W1·x + b1) + b2)` (Vaswani et al., arXiv
    1706.03762, section 3). Gains and shifts of the norms go into the weights that read them, and
    the bias of the keys, which moves all scores of a query alike, into nothing.

    Example:
    ```python
    from embbert_tf.baselines import ops, transformer_layer
    import tensorflow as tf

    layer = transformer_layer.TransformerLayer(size=16, num_heads=2, feed_forward=32)
    computing = ops.TensorOps(tf.constant([[2, 7, 9, 0]]))
    xhat, (gain, shift) = layer.run(computing, 0, tf.ones([1, 4, 16]), None)
    ```

    Args:
        size: D.
        num_heads: H, which divides D.
        feed_forward: F.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(self, size: int, num_heads: int, feed_forward: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.size, self.num_heads, self.feed_forward = size, num_heads, feed_forward
        uniform = initializers.UniformByInputs

        def weight(name: str, shape: tuple[int, ...], initializer: Any) -> tf.Variable:
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        # PyTorch draws the three as one (3D, D) matrix, within Xavier's bound of that.
        xavier = uniform(4 * size / 6)
        self.query_kernel = weight("query_kernel", (size, size), xavier)
        self.key_kernel = weight("key_kernel", (size, size), xavier)
        self.value_kernel = weight("value_kernel", (size, size), xavier)
        self.query_bias = weight("query_bias", (size,), "zeros")
        self.key_bias = weight("key_bias", (size,), "zeros")
        self.value_bias = weight("value_bias", (size,), "zeros")
        self.output_kernel = weight("output_kernel", (size, size), uniform(size))
        self.output_bias = weight("output_bias", (size,), "zeros")
        self.first_kernel = weight("first_kernel", (size, feed_forward), uniform(size))
        self.first_bias = weight("first_bias", (feed_forward,), uniform(size))
        self.second_kernel = weight("second_kernel", (feed_forward, size), uniform(feed_forward))
        self.second_bias = weight("second_bias", (size,), uniform(feed_forward))
        self.gain1, self.gain2 = (weight(f"gain{i}", (size,), "ones") for i in (1, 2))
        self.shift1_bias, self.shift2_bias = (
            weight(f"shift{i}_bias", (size,), "zeros") for i in (1, 2)
        )

    def run(
        self, ops: TensorOps, index: int, x: tf.Tensor, affine: Affine | None, last: bool = False
    ) -> tuple[tf.Tensor, Affine]:
        """Computes the layer.

        Args:
            ops: What computes.
            index: Of the layer.
            x: (batch, n, D), normalized.
            affine: Gain and shift that belong to `x`; None for 1 and 0.
            last: Whether row 0 alone is wanted.

        Returns:
            (batch, n or 1, D), normalized, and its gain and shift.
        """
        rows = ops.first(x) if last else x
        attended, moved = self._attended(ops, index, x, rows, affine)
        z = ops.dense(f"z{2 * index}", attended, ops.read(self.output_kernel), moved)
        own = rows if affine is None else ops.scale(f"gain{2 * index}", rows, affine[0])
        total = ops.add(f"x{2 * index + 1}", own, ops.drop(z))
        x = norm.normalized(ops, 2 * index + 1, total, centred=True)

        gain, shift = ops.read(self.gain1), ops.read(self.shift1_bias)
        first, second = ops.read(self.first_kernel), ops.read(self.second_kernel)
        bias = ops.read(self.first_bias) + _times(shift, first)
        h = ops.dense(f"h{index}", x, gain[:, None] * first, bias, relu=True)
        bias = ops.read(self.second_bias) + shift
        z = ops.dense(f"z{2 * index + 1}", ops.drop(h), second, bias)
        own = ops.scale(f"gain{2 * index + 1}", x, gain)
        total = ops.add(f"x{2 * index + 2}", own, ops.drop(z))
        x = norm.normalized(ops, 2 * index + 2, total, centred=True)
        return x, (ops.read(self.gain2), ops.read(self.shift2_bias))

    def _attended(self, ops, index, x, rows, affine):
        """Returns the heads' weighted values side by side, and the bias of what comes of them.

        The weights of a row sum to 1, so that a bias of the values may be added afterwards.
        """
        heads, width = self.num_heads, self.size // self.num_heads
        query, key, value = (
            ops.read(kernel) for kernel in (self.query_kernel, self.key_kernel, self.value_kernel)
        )
        query_bias, value_bias = ops.read(self.query_bias), ops.read(self.value_bias)
        bias = ops.read(self.output_bias)
        if affine is not None:
            gain, shift = affine
            query_bias = query_bias + _times(shift, query)
            value_bias = value_bias + _times(shift, value)
            query, key, value = (gain[:, None] * kernel for kernel in (query, key, value))
            bias = bias + shift  # Of the residual branch, whose gain alone `scale` applies.
        parts = []
        for head in range(heads):
            columns, number = slice(head * width, (head + 1) * width), index * heads + head
            factor = width**-0.5
            q = ops.dense(
                f"q{number}", rows, factor * query[:, columns], factor * query_bias[columns]
            )
            k = ops.dense(f"k{number}", x, key[:, columns], None)
            shares = ops.shares(f"scores{number}", q, k)
            v = ops.values(f"v{number}", x, value[:, columns])
            parts.append(ops.weigh(f"c{index}", shares, v))
        return ops.join(parts), bias + _times(value_bias, ops.read(self.output_kernel))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "size": self.size,
            "num_heads": self.num_heads,
            "feed_forward": self.feed_forward,
        }


def _times(row, matrix):
    """Returns the product of a row (D,) and a matrix (D, E), of tensors and arrays alike."""
    return (row[None] @ matrix)[0]
