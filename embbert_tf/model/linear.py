"""A linear map of the last axis."""

import tensorflow as tf


def linear(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns `x @ kernel`, computed as one product of two matrices.

    TensorFlow takes `@` of three axes for a product of each batch row: the gradient of the kernel
    then is a matrix for each of them, summed up afterwards, which costs more than the product.

    Args:
        x: float32 (..., D).
        kernel: float32 (D, E).

    Returns:
        float32 (..., E).
    """
    size, width = kernel.shape
    shape = tf.concat([tf.shape(x)[:-1], [width]], axis=0)
    y = tf.reshape(tf.reshape(x, [-1, size]) @ kernel, shape)
    return tf.ensure_shape(y, [*x.shape[:-1], width])
