"""A layer of BERT with efficient attention."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.baselines import initializers, norm
from embbert_tf.baselines.ops import TensorOps

# Added under the root: float32's machine epsilon, the default of `torch.nn.RMSNorm`.
_EPSILON = 2.0**-23


@keras.utils.register_keras_serializable(package="embbert_tf")
class EfficientLayer(keras.layers.Layer):
    """Attention without key and value projections, and a feed-forward part, both after a norm.

    `x <- RMSNorm(x); x <- x + softmax((x·W_q + b_q)·xᵀ/√D)·x·W_o + b_o;
    x <- RMSNorm(x); x <- x + W2·SiLU(W1·x + b1) + b2` (arXiv 2502.10001, "BERT + EA").
    What is added to is the normalized x. Gains of the norms go into the weights that read them.

    Example:
    ```python
    from embbert_tf.baselines import efficient_layer, ops
    import tensorflow as tf

    layer = efficient_layer.EfficientLayer(size=16, feed_forward=11)
    x = layer.run(ops.TensorOps(tf.constant([[2, 7, 9, 0]])), 0, tf.ones([1, 4, 16]))  # (1, 4, 16)
    ```

    Args:
        size: D.
        feed_forward: F.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(self, size: int, feed_forward: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.size, self.feed_forward = size, feed_forward
        uniform = initializers.UniformByInputs

        def weight(name: str, shape: tuple[int, ...], initializer: Any) -> tf.Variable:
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        self.gain1, self.gain2 = (weight(f"gain{i}", (size,), "ones") for i in (1, 2))
        self.query_kernel = weight("query_kernel", (size, size), uniform(size))
        self.query_bias = weight("query_bias", (size,), uniform(size))
        self.output_kernel = weight("output_kernel", (size, size), uniform(size))
        self.output_bias = weight("output_bias", (size,), uniform(size))
        self.first_kernel = weight("first_kernel", (size, feed_forward), uniform(size))
        self.first_bias = weight("first_bias", (feed_forward,), uniform(size))
        self.second_kernel = weight("second_kernel", (feed_forward, size), uniform(feed_forward))
        self.second_bias = weight("second_bias", (size,), uniform(feed_forward))

    def run(self, ops: TensorOps, index: int, x: tf.Tensor, last: bool = False) -> tf.Tensor:
        """Computes the layer.

        Args:
            ops: What computes.
            index: Of the layer.
            x: (batch, n, D).
            last: Whether row 0 alone is wanted.

        Returns:
            The activation `x<2 * index + 2>`, (batch, n or 1, D).
        """
        x = norm.normalized(ops, 2 * index, x, centred=False, epsilon=_EPSILON)
        rows = ops.first(x) if last else x
        gain, factor = ops.read(self.gain1), self.size**-0.5
        # Scores are q·(gain·x): the keys' gain goes into the queries.
        query = factor * gain[:, None] * ops.read(self.query_kernel) * gain
        bias = factor * ops.read(self.query_bias) * gain
        q = ops.dense(f"q{index}", rows, query, bias)
        c = ops.weigh(f"c{index}", ops.shares(f"scores{index}", q, x), ops.columns(x))
        kernel, bias = ops.read(self.output_kernel), ops.read(self.output_bias)
        z = ops.dense(f"z{2 * index}", c, gain[:, None] * kernel, bias)
        x = ops.add(f"x{2 * index + 1}", ops.scale(f"gain{2 * index}", rows, gain), z)

        x = norm.normalized(ops, 2 * index + 1, x, centred=False, epsilon=_EPSILON)
        gain, kernel = ops.read(self.gain2), ops.read(self.first_kernel)
        h = ops.dense(f"h{index}", x, gain[:, None] * kernel, ops.read(self.first_bias))
        kernel, bias = ops.read(self.second_kernel), ops.read(self.second_bias)
        z = ops.dense(f"z{2 * index + 1}", ops.silu(f"u{index}", h), kernel, bias)
        return ops.add(f"x{2 * index + 2}", ops.scale(f"gain{2 * index + 1}", x, gain), z)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "size": self.size, "feed_forward": self.feed_forward}
