"""Quantization-aware training: the folded classifier with every int8 tensor of the device in it.

The forward pass is that of `embbert_tf.quantization.folding`, and each activation named there goes through a
fake quantizer, in the same place and with the same granularity as on the device. The weights stay
those of the fp32 classifier: they are folded anew in every step, and the folded value is quantized
(straight-through, by tensorflow-model-optimization), as it is the folded value that ships.
"""

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf.model import classifier as classifier_lib
from embbert_tf.model import special_tokens
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.quantization import fake_quant, folded_classifier, folding
from embbert_tf.quantization import ranges as ranges_lib


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
            name: fake_quant.ActivationQuantizer(folding.kind(name) in folding.SYMMETRIC, name=name)
            for name in folding.activation_names(config)
        }
        channels = {"token": config.reduced_size, "position": config.reduced_size}
        names = ["embed", "head"]
        for layer in range(config.num_layers):
            names += [f"wq{layer}", f"wv{layer}", f"wz{layer}"]
            channels[f"conv{layer}"] = config.hidden_size * config.expansion
        self.weight_quantizers = {
            name: fake_quant.WeightQuantizer(channels.get(name), name=f"weight_{name}")
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
        model(np.full((1, 2), special_tokens.CLS, np.int32))
        return model
