"""Quantization-aware training: the folded classifier with every int8 tensor of the device in it.

The forward pass is that of `embbert_tf.folding`, and each activation named there goes through a
fake quantizer, in the same place and with the same granularity as on the device. The weights stay
those of the fp32 classifier: they are folded anew in every step, and the folded value is quantized
(straight-through, by tensorflow-model-optimization), as it is the folded value that ships.
"""

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from tensorflow import keras

from embbert_tf import classifier as classifier_lib
from embbert_tf import folded_classifier, folding, tokenizer
from embbert_tf import ranges as ranges_lib
from embbert_tf.config import EmbBertConfig

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


@keras.utils.register_keras_serializable(package="embbert_tf")
class QuantizedClassifier(folded_classifier.FoldedClassifier):
    """A classifier as the device computes it, for fine-tuning.

    Example:
    ```python
    model = QuantizedClassifier(run.model.config, run.model.num_labels)
    model.start_from(run.model, calibration_sequences)
    model.learn_steps(calibration_sequences)
    model.compile(optimizer="adam", loss=...)
    model.fit(dataset)
    model.settled().save("qat.keras")
    model.ranges()  # {"x0": (-3.1, 2.9), ...}
    ```

    Args:
        config: An `EmbBertConfig`, or the dictionary of one.
        num_labels: Number of logits, L.
        **kwargs: Of `keras.Model`.

    Call arguments:
        ids: int32 (batch, n), `[PAD]` = 0 at the end.

    Returns:
        float32 (batch, num_labels), logits on the device's grid.
    """

    def __init__(self, config, num_labels, **kwargs):
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = EmbBertConfig.from_dict(config)
        self.config = config
        self.num_labels = num_labels
        self.classifier = classifier_lib.EmbBertClassifier(
            config, num_labels, dropout=0.0, name="classifier"
        )
        self.activation_quantizers = {
            name: ActivationQuantizer(folding.kind(name) in folding.SYMMETRIC, name=name)
            for name in folding.activation_names(config)
        }
        channels = {"token": config.reduced_size, "position": config.reduced_size}
        names = ["embed", "head"]
        for layer in range(config.num_layers):
            names += [f"wq{layer}", f"wv{layer}", f"wz{layer}"]
            channels[f"conv{layer}"] = config.hidden_size * config.expansion
        self.weight_quantizers = {
            name: WeightQuantizer(channels.get(name), name=f"weight_{name}")
            for name in [*channels, *names]
        }

    def start_from(self, classifier, sequences, coverage: float = 0.99):
        """Takes over trained weights, and ranges that cover a sample of data.

        Args:
            classifier: A trained `EmbBertClassifier` of the same sizes.
            sequences: Lists of token ids, without padding.
            coverage: Share of the sequences whose extremes a range holds.
        """
        self.classifier.set_weights(classifier.get_weights())
        extremes: dict[str, list[tuple[float, float]]] = {}

        def tap(name, array):
            if name.startswith("scores"):
                array = np.maximum(array, array.max(axis=-1, keepdims=True) - folding.SCORE_DEPTH)
            extremes.setdefault(name, []).append((float(array.min()), float(array.max())))

        folded = folding.fold(self.classifier)
        for ids in sequences:
            folding.forward(folded, ids, tap)
        for name, seen in extremes.items():
            lows, highs = np.array(seen).T
            self.activation_quantizers[name].set_range(
                float(np.quantile(lows, 1 - coverage)), float(np.quantile(highs, coverage))
            )

    def learn_steps(self, sequences) -> list:
        """Makes the ranges trainable, starting from those of least squared error.

        The ranges of `ranges.NEVER_CUT` are not learnt: they hold all that is seen.

        Args:
            sequences: Lists of token ids, without padding, to measure on.

        Returns:
            The new variables.
        """
        meter = ranges_lib.RangeMeter(folding.fold(self.classifier))
        for ids in sequences:
            meter.run(ids)
        factors = []
        for name, (low, high) in meter.ranges("mse").items():
            layer = self.activation_quantizers[name]
            layer.set_range(low, high)
            if folding.kind(name) in ranges_lib.NEVER_CUT:
                layer.grow()
            else:
                factors += layer.learn()
        return factors

    def settled(self):
        """Returns a copy that has the present ranges as constants: what is saved and shipped."""
        copy = self.from_config({"config": self.config, "num_labels": self.num_labels})
        copy.classifier.set_weights(self.classifier.get_weights())
        copy.restore_ranges(self.ranges())
        return copy

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Returns activation name to (low, high)."""
        return {name: layer.range() for name, layer in self.activation_quantizers.items()}

    def restore_ranges(self, ranges: dict[str, tuple[float, float]]):
        """Sets the ranges to what `ranges` returned once.

        Raises:
            ValueError: if an activation is missing or unknown.
        """
        for name in sorted({*ranges} ^ {*self.activation_quantizers}):
            raise ValueError(f"range of {name} {'is unknown' if name in ranges else 'is missing'}")
        for name, (low, high) in ranges.items():
            self.activation_quantizers[name].set_range(low, high)

    def call(self, ids, training=None):
        """Computes the logits, fake-quantized."""
        return self.folded_logits(ids, training)

    def _activation(self, name, x, training):
        return self.activation_quantizers[name](x, training=training)

    def _share(self, x):
        """Rounds what lies between 0 and 1 as TFLM does in softmax and sigmoid."""
        return tf.quantization.fake_quant_with_min_max_args(x, 0.0, 255 / 256)

    def _weight(self, name, w):
        return self.weight_quantizers[name](w)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "config": self.config.to_dict(),
            "num_labels": self.num_labels,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Builds the model from `get_config`'s dictionary."""
        del custom_objects
        model = cls(**config)
        model(np.full((1, 2), tokenizer.CLS, np.int32))
        return model
