"""Fake quantizers of activations and weights (tensorflow-model-optimization, LSQ)."""

import tensorflow as tf
import tensorflow_model_optimization as tfmot
from tensorflow import keras

_quantizers = tfmot.quantization.keras.quantizers


@tf.custom_gradient
def _fake_int8(x, low, high):
    """Rounds to 256 levels from low to high; both get LSQ's gradient.

    "Learned Step Size Quantization" (Esser et al., arXiv 1902.08153) for a range instead of a step,
    as in LSQ+ (Bhalgat et al., arXiv 2004.09576): a value beyond the range pulls its end, one
    within it pushes both ends towards where its rounding error, y - x, gets less.
    """
    y = tf.quantization.fake_quant_with_min_max_vars(x, low, high)

    def gradient(upstream):
        inside, of_low, of_high = tf.quantization.fake_quant_with_min_max_vars_gradient(
            upstream, x, low, high
        )
        step = tf.reduce_sum(inside * (y - x)) / (high - low)
        return inside, of_low - step, of_high + step

    return y, gradient


@tf.custom_gradient
def _fake_symmetric_int8(x, high):
    """Rounds to the 255 levels from -high to high, with the same gradient."""
    y = tf.quantization.fake_quant_with_min_max_vars(x, -high, high, narrow_range=True)

    def gradient(upstream):
        inside, of_low, of_high = tf.quantization.fake_quant_with_min_max_vars_gradient(
            upstream, x, -high, high, narrow_range=True
        )
        return inside, of_high - of_low + tf.reduce_sum(inside * (y - x)) / high

    return y, gradient


@keras.utils.register_keras_serializable(package="embbert_tf")
class ActivationQuantizer(keras.layers.Layer):
    """Fakes the int8 of one activation.

    The range is a constant, as it is in a saved model; after `learn` it is learnt by gradient
    descent, after `grow` it takes in all that training sees.

    Args:
        symmetric: Zero point 0, for tensors that serve as a filter on the device.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        x: float32, any shape; 0 where a value must not count (padding).

    Returns:
        `x`, rounded to 256 levels.
    """

    def __init__(self, symmetric=False, **kwargs):
        super().__init__(**kwargs)
        self.symmetric = symmetric
        # In this order, which is that of the weights in a `.keras` file.
        self._low = self._end("range_min", -6.0)
        self._high = self._end("range_max", 6.0)
        self._growing = False
        self._factors = None

    def _end(self, name, value):
        start = keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=(), initializer=start, trainable=False)

    def learn(self):
        """Makes the range trainable, from where it is.

        Its ends become exp(factor) times what they are now, so that every range, wide or narrow,
        learns at the same pace.

        Returns:
            The new variables.
        """
        names = ("high",) if self.symmetric else ("low", "high")
        self._factors = [self.add_weight(name=f"{n}_factor", initializer="zeros") for n in names]
        return self._factors

    def grow(self):
        """Makes the range in training the widest seen: for values that must never be cut."""
        self._growing = True

    def call(self, x, training=None):
        """Quantizes; in training, a growing range takes in `x` first."""
        if self._growing and training:
            self._low.assign(tf.minimum(self._low, tf.reduce_min(x)))
            self._high.assign(tf.maximum(self._high, tf.reduce_max(x)))
        low, high = self._ends()
        return _fake_symmetric_int8(x, high) if self.symmetric else _fake_int8(x, low, high)

    def _ends(self):
        """Returns (low, high), scalar tensors with the gradient of the factors, if any."""
        low, high = tf.convert_to_tensor(self._low), tf.convert_to_tensor(self._high)
        if self._factors is not None:
            low, high = low * tf.exp(self._factors[0]), high * tf.exp(self._factors[-1])
        return (-high if self.symmetric else low), high

    def set_range(self, low: float, high: float):
        """Sets the range, which always holds 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        if self.symmetric:
            low, high = -max(-low, high), max(-low, high)
        self._low.assign(low)
        self._high.assign(high)

    def range(self) -> tuple[float, float]:
        """Returns (low, high)."""
        low, high = self._ends()
        return float(low), float(high)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "symmetric": self.symmetric}


@keras.utils.register_keras_serializable(package="embbert_tf")
class WeightQuantizer(keras.layers.Layer):
    """Fakes the int8 (-127..127) of a weight that is computed, by its present largest value.

    Args:
        channels: One scale for each index of the last axis if not None, else one in all.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        w: float32, with `channels` as its last dimension.

    Returns:
        `w`, rounded to 255 levels.
    """

    def __init__(self, channels=None, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self._quantizer = _quantizers.LastValueQuantizer(
            num_bits=8, per_axis=channels is not None, symmetric=True, narrow_range=True
        )
        shape = None if channels is None else tf.TensorShape([None, channels])
        self._weights_of_quantizer = self._quantizer.build(shape, "range", self)

    def call(self, w):
        """Quantizes to the range of `w` itself, also outside training: so does conversion."""
        return self._quantizer(w, True, self._weights_of_quantizer)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}
