"""Initial weights that let a signal through a stack of layers without residual connections."""

import numpy as np
import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable(package="embbert_tf")
class RecentTaps(keras.initializers.Initializer):
    """A causal depthwise kernel that starts near the identity.

    The last tap, which meets the current row, starts at 1, the others as noise that fades with
    distance. With taps all alike (PyTorch's default) each layer would blur K rows into one, and as
    the model has no residual connection, a token's identity would be lost after a layer or two: on
    Snips the first epoch then ends at 90 % instead of 94 % on validation data.

    Args:
        noise: Standard deviation of the tap before the last.
        reach: Taps over which the noise fades by 1/e.
        seed: Of the noise.
    """

    def __init__(self, noise=0.4, reach=3.0, seed=None):
        self.noise, self.reach, self.seed = noise, reach, seed

    def __call__(self, shape, dtype=None, **kwargs):
        """Returns a kernel (K, D, E)."""
        del kwargs
        lag = np.arange(shape[0] - 1, -1, -1, dtype=np.float32)
        fade = self.noise * np.exp(-lag / self.reach)
        kernel = tf.random.normal(shape, seed=self.seed) * fade[:, np.newaxis, np.newaxis]
        identity = np.where(lag == 0, 1.0, 0.0).astype(np.float32)
        return tf.cast(kernel + identity[:, np.newaxis, np.newaxis], dtype or tf.float32)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"noise": self.noise, "reach": self.reach, "seed": self.seed}
