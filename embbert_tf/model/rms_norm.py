"""Root-mean-square normalization."""

import numpy as np
import tensorflow as tf
from tensorflow import keras

# The reference uses the machine epsilon of float32.
EPSILON = float(np.finfo(np.float32).eps)


@keras.utils.register_keras_serializable(package="embbert_tf")
class RMSNorm(keras.layers.Layer):
    """`x / sqrt(mean(x²) + ε) · g` over the last axis (arXiv 2502.10001, section 4).

    Example:
    ```python
    from embbert_tf.model.rms_norm import RMSNorm
    import tensorflow as tf

    y = RMSNorm()(tf.random.normal([1, 4, 16]))  # (1, 4, 16), mean square 1
    ```

    Call arguments:
        x: float32 (..., D).

    Returns:
        float32, the shape of `x`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the gain g, of ones."""
        self.gain = self.add_weight(name="gain", shape=(input_shape[-1],), initializer="ones")
        super().build(input_shape)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Normalizes and applies the gain."""
        mean_square = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        return x * tf.math.rsqrt(mean_square + EPSILON) * self.gain
