"""Fake quantizers: float tensors that take only the values that int8 can have on the device.

Weights go through tensorflow-model-optimization. Activations have a range of their own, which can
be learnt by gradient descent ("Learned Step Size Quantization", Esser et al., arXiv 1902.08153).
"""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

# Codes of 4 bits lie within -7..7: symmetric, so that -w has w's codes.
MOST_CODE = 7
# Codes times one of 1..18 are int8: 18 * 7 = 126.
MOST_FACTOR = 18


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


@tf.custom_gradient
def _fake_codes(w, step):
    """Rounds to codes -7..7 times the step of each index of the last axis; both get a gradient.

    That of LSQ: a weight beyond the codes pulls its step, one within them pushes it towards where
    its rounding error gets less.
    """
    scaled = w / step
    codes = tf.clip_by_value(tf.round(scaled), -float(MOST_CODE), float(MOST_CODE))

    def gradient(upstream):
        inside = tf.cast(tf.abs(scaled) <= MOST_CODE, w.dtype)
        of_step = upstream * (codes - inside * scaled)
        return upstream * inside, tf.reduce_sum(of_step, axis=list(range(len(w.shape) - 1)))

    return codes * step, gradient


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


@keras.utils.register_keras_serializable(package="embbert_tf")
class CodeQuantizer(keras.layers.Layer):
    """Rounds a weight that is computed to 4 bits: codes -7..7 times a step for each channel.

    On the device such a weight is an int8, an integer factor times its code. The steps are
    constants until `learn` makes them trainable.

    Example:
    ```python
    from embbert_tf.quantization.fake_quant import CodeQuantizer
    import numpy as np

    quantizer = CodeQuantizer(channels=2, factors="channel")
    quantizer.start_from(np.array([[0.7, 0.3], [0.2, -0.14]]))
    quantizer.quantized(np.array([[0.7, 0.3], [0.2, -0.14]]))  # int8 (2, 2), and their scale
    ```

    Args:
        channels: Size of the weight's last axis.
        factors: What the int8 weight is on the device: "one" the code itself, with a scale a
            channel; "most" 18 times the code, likewise; "channel" one of 1..18 times the code, with
            one scale in all: steps then are multiples of one.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        w: float32, with `channels` as its last dimension.

    Returns:
        float32, the shape of `w`, at most 15 different values for each channel.
    """

    def __init__(self, channels: int, factors: str, **kwargs: Any):
        super().__init__(**kwargs)
        if factors not in ("one", "most", "channel"):
            raise ValueError(f"factors are one, most or channel, not {factors!r}")
        self.channels = channels
        self.factors = factors
        self._steps = self.add_weight(
            name="steps", shape=(channels,), initializer="ones", trainable=False
        )
        self._growth: tf.Variable | None = None

    def learn(self) -> tf.Variable:
        """Makes the steps trainable, from where they are, and returns the new variable.

        They become exp(growth) times what they are now, as an `ActivationQuantizer`'s range does.
        """
        self._growth = self.add_weight(name="growth", shape=(self.channels,), initializer="zeros")
        return self._growth

    def start_from(self, w: np.ndarray) -> None:
        """Sets the steps to those of least squared error; what was learnt of them is forgotten."""
        w = np.asarray(w, np.float64)
        axes = tuple(range(w.ndim - 1))
        largest = np.maximum(np.abs(w).max(axis=axes), 1e-9) / MOST_CODE
        shares = np.linspace(1.0, 0.4, 61)
        errors = [
            ((np.clip(np.round(w / step), -MOST_CODE, MOST_CODE) * step - w) ** 2).sum(axis=axes)
            for step in shares[:, np.newaxis] * largest
        ]
        self.set_steps(shares[np.argmin(errors, axis=0)] * largest)

    def set_steps(self, steps: np.ndarray) -> None:
        """Sets the steps, (channels,); what was learnt of them is forgotten."""
        self._steps.assign(steps)
        if self._growth is not None:
            self._growth.assign(tf.zeros_like(self._growth))

    def steps(self) -> np.ndarray:
        """Returns the steps, (channels,) float32, before they are made multiples of one."""
        return self._present().numpy()

    def present_scale(self) -> tf.Tensor:
        """Returns the scale of the int8 weight: (channels,), of "channel" a scalar."""
        steps = self._present()
        if self.factors == "channel":
            return tf.reduce_max(steps) / MOST_FACTOR
        return steps / MOST_FACTOR if self.factors == "most" else steps

    def scale(self) -> np.ndarray:
        """Returns `present_scale` in NumPy."""
        return self.present_scale().numpy()

    def quantized(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the int8 weight, the shape of `w`, and its scale."""
        step, scale = self._multiples(self._present()).numpy(), self.scale()
        codes = np.clip(np.round(np.asarray(w, np.float64) / step), -MOST_CODE, MOST_CODE)
        return (codes * np.round(step / scale)).astype(np.int8), scale

    def call(self, w: tf.Tensor) -> tf.Tensor:
        """Quantizes."""
        return _fake_codes(w, self._multiples(self._present()))

    def _present(self):
        """Returns the steps with the gradient of their growth, if any."""
        steps = tf.convert_to_tensor(self._steps)
        return steps if self._growth is None else steps * tf.exp(self._growth)

    def _multiples(self, steps):
        """Returns steps that the device has, with the gradient of `steps`."""
        if self.factors != "channel":
            return steps
        unit = self.present_scale()
        multiples = tf.clip_by_value(tf.round(steps / unit), 1.0, float(MOST_FACTOR)) * unit
        return steps + tf.stop_gradient(multiples - steps)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "channels": self.channels, "factors": self.factors}
