"""Normalization of rows, described once for all models."""

import tensorflow as tf

from embbert_tf.baselines.ops import TensorOps

_EPSILON = 1e-5


def normalized(
    ops: TensorOps, index: int, x: tf.Tensor, centred: bool, epsilon: float = _EPSILON
) -> tf.Tensor:
    """Returns the activation `xhat<index>`: rows of root mean square 1, without a gain.

    A gain and a shift belong into the weights that read it.

    Args:
        ops: What computes.
        index: Of the normalization.
        x: (batch, n, D).
        centred: Whether the mean of each row is taken off first: LayerNorm, else RMSNorm.
        epsilon: Added under the root.
    """
    if centred:
        x = ops.subtract(f"centred{index}", x, ops.mean(f"mean{index}", x))
    square = ops.multiply(f"sq{index}", x, x)
    inverse = ops.inverse_root(f"r{index}", ops.mean(f"ms{index}", square), epsilon)
    return ops.multiply(f"xhat{index}", x, inverse)
