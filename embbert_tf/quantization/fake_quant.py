"""Fake quantizers: float tensors that take only the values that int8 can have on the device.

Weights go through tensorflow-model-optimization. Activations have a range of their own, which can
be learnt by gradient descent ("Learned Step Size Quantization", Esser et al., arXiv 1902.08153).
"""

from typing import Any

import tensorflow as tf
from tensorflow import keras


@tf.custom_gradient
def _fake_int8(x, low, high):
    """Rounds to 256 levels from low to high; both get a gradient.

    That of LSQ for a range instead of a step, as in LSQ+ (Bhalgat et al., arXiv 2004.09576): a
    value beyond the range pulls its end, one within it pushes both ends towards where its rounding
    error, y - x, gets less.
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
    """Rounds one activation to its int8 grid.

    The range is a constant until `learn` makes it trainable, or `grow` lets it take in all that
    training shows.

    Example:
    ```python
    from embbert_tf.quantization.fake_quant import ActivationQuantizer
    import tensorflow as tf

    quantizer = ActivationQuantizer()
    quantizer.set_range(0.0, 2.55)
    y = quantizer(tf.constant([-1.0, 0.123, 9.0]))  # [0.0, 0.12, 2.55]
    ```

    Args:
        symmetric: If True the zero point is 0, for tensors that serve as a filter on the device.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        x: float32, any shape; 0 where a value must not count (padding).

    Returns:
        float32, the shape of `x`, at most 256 different values (255 if symmetric).
    """

    def __init__(self, symmetric: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.symmetric = symmetric
        # In this order, which is that of the weights in a `.keras` file.
        self._low = self._end("range_min", -6.0)
        self._high = self._end("range_max", 6.0)
        self._growing = False
        self._factors: list[tf.Variable] = []

    def _end(self, name: str, value: float) -> tf.Variable:
        start = keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=(), initializer=start, trainable=False)

    def learn(self) -> list[tf.Variable]:
        """Makes the range trainable, from where it is.

        Its ends become exp(factor) times what they are now, so that every range, wide or narrow,
        learns at the same pace.

        Returns:
            The new variables: the factor of `high` if symmetric, else those of `low` and `high`.
        """
        names = ("high",) if self.symmetric else ("low", "high")
        self._factors = [self.add_weight(name=f"{n}_factor", initializer="zeros") for n in names]
        return self._factors

    def grow(self) -> None:
        """Makes the range in training the widest seen: for values that must never be cut."""
        self._growing = True

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Quantizes; in training, a growing range takes in `x` first."""
        if self._growing and training:
            self._low.assign(tf.minimum(self._low, tf.reduce_min(x)))
            self._high.assign(tf.maximum(self._high, tf.reduce_max(x)))
        low, high = self._ends()
        return _fake_symmetric_int8(x, high) if self.symmetric else _fake_int8(x, low, high)

    def _ends(self):
        """Returns (low, high), scalar tensors with the gradient of the factors, if any."""
        low, high = tf.convert_to_tensor(self._low), tf.convert_to_tensor(self._high)
        if self._factors:
            low, high = low * tf.exp(self._factors[0]), high * tf.exp(self._factors[-1])
        return (-high if self.symmetric else low), high

    def set_range(self, low: float, high: float) -> None:
        """Sets the range, which always holds 0; what was learnt of it is forgotten."""
        low, high = min(low, 0.0), max(high, 0.0)
        if self.symmetric:
            low, high = -max(-low, high), max(-low, high)
        self._low.assign(low)
        self._high.assign(high)
        for factor in self._factors:
            factor.assign(0.0)

    def range(self) -> tuple[float, float]:
        """Returns (low, high)."""
        low, high = self._ends()
        return float(low), float(high)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "symmetric": self.symmetric}


@keras.utils.register_keras_serializable(package="embbert_tf")
class WeightQuantizer(keras.layers.Layer):
    """Rounds a weight that is computed to the int8 (-127..127) grid of its present largest value.

    Example:
    ```python
    from embbert_tf.quantization.fake_quant import WeightQuantizer
    import tensorflow as tf

    w = WeightQuantizer()(tf.constant([[1.27, 0.504]]))  # [[1.27, 0.5]]
    ```

    Args:
        channels: One scale for each index of the last axis if not None, else one in all.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        w: float32, with `channels` as its last dimension.

    Returns:
        float32, the shape of `w`, at most 255 different values for each scale.
    """

    def __init__(self, channels: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        import tensorflow_model_optimization as tfmot  # Takes seconds to load.

        self.channels = channels
        self._quantizer = tfmot.quantization.keras.quantizers.LastValueQuantizer(
            num_bits=8, per_axis=channels is not None, symmetric=True, narrow_range=True
        )
        shape = None if channels is None else tf.TensorShape([None, channels])
        self._weights_of_quantizer = self._quantizer.build(shape, "range", self)

    def call(self, w: tf.Tensor) -> tf.Tensor:
        """Quantizes to the range of `w` itself, also outside training: so does conversion."""
        return self._quantizer(w, True, self._weights_of_quantizer)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}
