"""Quantization-aware training of the compared models, with EmbBERT's own quantizers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf import errors
from embbert_tf.baselines.classifier import BaselineClassifier
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.baselines.ops import TensorOps
from embbert_tf.model import special_tokens
from embbert_tf.quantization import fake_quant, folded_classifier, learnt_ranges
from embbert_tf.quantization import ranges as ranges_lib

_LEAST_STEPS = 4


class _NamingOps(TensorOps):
    """Notes the name of every activation, and name and channels of every weight."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.activations: dict[str, None] = {}
        self.weights: dict[str, int | None] = {}

    def activation(self, name, x):
        self.activations[name] = None
        return x

    def weight(self, name, w, channels=True):
        self.weights[name] = int(w.shape[-1]) if channels else None
        return w

    def shares(self, name, queries, keys):
        self.activations[name] = None
        return super().shares(name, queries, keys)


class _TappedOps(TensorOps):
    """Shows every activation to a function, as NumPy arrays."""

    def __init__(self, ids: tf.Tensor, tap: Any):
        super().__init__(ids)
        self._tap = tap

    def activation(self, name, x):
        self._tap(name, x.numpy())
        return x

    def shares(self, name, queries, keys):
        self._tap(name, tf.matmul(queries, keys, transpose_b=True).numpy())
        return super().shares(name, queries, keys)


class BaselineMeter(ranges_lib.RangeMeter):
    """Collects the activations of a `BaselineClassifier`, sequence by sequence.

    Args:
        model: The classifier.
    """

    def __init__(self, model: BaselineClassifier):
        super().__init__(model)
        self._classifier = model

    def run(self, ids: Sequence[int]) -> None:
        """Runs one sequence of token ids (no padding) and records every activation."""
        self._classifier.logits(_TappedOps(tf.constant([list(ids)]), self._tap))

    def ranges(self, method: str) -> dict[str, tuple[float, float]]:
        """Returns (low, high) of every activation; arguments and errors as of `RangeMeter`.

        Of a pooled head the mean of squares m and its reciprocal root are multiplied: the root of
        a mean that int8 can hardly tell from 0 must not take the steps from all others. Below
        `_LEAST_STEPS` of m's steps the root stays what it is there.
        """
        result = super().ranges(method)
        if "root" in result:
            high = max(result["pooled"][1], 1e-9)
            most = (255 / (_LEAST_STEPS * high)) ** 0.5
            result["root"] = (0.0, min(result["root"][1], most))
        return result


class _FakeQuantOps(TensorOps):
    """Rounds activations and weights as the device does."""

    def __init__(self, ids: tf.Tensor, training: bool | None, model: "QuantizedBaseline"):
        super().__init__(ids, training)
        self._model = model

    def activation(self, name, x):
        # What padding holds must not widen a range. A single row is never padding.
        rows = x if x.shape[1] == 1 else x * self.mask[:, :, tf.newaxis]
        return self._model.activation_quantizers[name](rows, training=self.training)

    def weight(self, name, w, channels=True):
        del channels
        if len(w.shape) != 1:
            return self._model.weight_quantizers[name](w)
        return self._model.weight_quantizers[name](w[tf.newaxis])[0]

    def share(self, x):
        return tf.quantization.fake_quant_with_min_max_args(x, 0.0, 255 / 256)

    def inverse_root(self, name, x, epsilon):
        if not self.training:
            return super().inverse_root(name, x, epsilon)
        least = folded_classifier.least_mean(x, epsilon)
        return self.activation(name, tf.math.rsqrt(tf.maximum(x, least)))

    def shares(self, name, queries, keys):
        scores = tf.matmul(queries, keys, transpose_b=True)
        scores, hidden = folded_classifier.visible_scores(scores, self.mask)
        scores = self.activation(name, scores)
        return self.share(tf.nn.softmax(scores + hidden))


@keras.utils.register_keras_serializable(package="embbert_tf")
class QuantizedBaseline(learnt_ranges.LearntRanges, keras.Model):
    """A `BaselineClassifier` as the device computes it; `quantize` makes one.

    While it learns, the ends of its ranges are trainable; settled, they are constants. The forms
    are those of `embbert_tf.quantization.quantized_classifier`.

    Example:
    ```python
    import numpy as np
    from embbert_tf.baselines import config, quantized_baseline

    model = quantized_baseline.QuantizedBaseline(config.ARCHITECTURES["bert"], num_labels=3)
    logits = model(np.array([[2, 7, 9, 0]]))  # (1, 3)
    ```

    Args:
        config: A `BaselineConfig`, or the dictionary of one.
        num_labels: Number of logits, L; 1 for regression.
        learning: If True the ranges learn.
        **kwargs: Of `keras.Model`.

    Call arguments:
        ids: int32 (batch, n), n <= max_length, `[PAD]` = 0 at the end.

    Returns:
        float32 (batch, num_labels), logits on the device's grid.
    """

    weight_bits = 8

    def __init__(
        self,
        config: BaselineConfig | dict,
        num_labels: int,
        learning: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = BaselineConfig.from_dict(config)
        self.config, self.num_labels, self.learning = config, num_labels, learning
        self.classifier = BaselineClassifier(config, num_labels, dropout=0.0, name="classifier")
        ids = np.full((1, 2), special_tokens.CLS, np.int32)
        named = _NamingOps(ids)
        self.classifier.logits(named)
        self.activation_quantizers = self.quantizers_of(named.activations)
        self.weight_quantizers = {
            name: fake_quant.WeightQuantizer(channels, name=f"weight_{name}")
            for name, channels in named.weights.items()
        }
        if learning:
            self.learn_ranges()
        self(ids)  # Keras saves what was called once.

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Computes the logits, fake-quantized."""
        return self.classifier.logits(_FakeQuantOps(ids, training, self))[:, 0]

    def start_from(
        self, classifier: BaselineClassifier, sequences: Iterable[Sequence[int]]
    ) -> None:
        """Takes over trained weights, and the ranges of least squared error on a sample."""
        self.classifier.set_weights(classifier.get_weights())
        meter = BaselineMeter(self.classifier)
        for ids in sequences:
            meter.run(ids)
        self.restore_ranges(meter.ranges("mse"))

    def settled(self) -> "QuantizedBaseline":
        """Returns a copy that has the present ranges as constants."""
        copy = QuantizedBaseline(self.config, self.num_labels)
        copy.classifier.set_weights(self.classifier.get_weights())
        copy.restore_ranges(self.ranges())
        return copy

    def steps(self) -> dict[str, list[float]]:
        """Returns nothing: none of its weights has 4 bits."""
        return {}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "config": self.config.to_dict(),
            "num_labels": self.num_labels,
            "learning": self.learning,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "QuantizedBaseline":
        """Builds the model from `get_config`'s dictionary."""
        del custom_objects
        return cls(**config)


def quantize(
    classifier: BaselineClassifier, representative_ids: Any, weight_bits: int = 8
) -> QuantizedBaseline:
    """Makes a classifier compute as the device will, ready for fine-tuning.

    Args:
        classifier: A trained `BaselineClassifier`, which stays as it is.
        representative_ids: As for `embbert_tf.quantize`.
        weight_bits: 8.

    Returns:
        A `QuantizedBaseline` with the classifier's weights, whose ranges start from those of least
        squared error on the sample and learn. It is not compiled.

    Raises:
        OptionError: `weight_bits` is another, a weight is no finite number, or padding counts.
        DataError: The ids are none that the classifier can read.
    """
    if weight_bits != 8:
        raise errors.OptionError(f"weight_bits of {classifier.config.what} is 8, not {weight_bits}")
    check_convertible(classifier.config)
    ranges_lib.check_finite(classifier)
    sequences = ranges_lib.sequences_of(representative_ids, classifier.config)
    quantized = QuantizedBaseline(classifier.config, classifier.num_labels, learning=True)
    quantized.start_from(classifier, sequences)
    return quantized


def check_convertible(config: BaselineConfig) -> None:
    """Raises OptionError where padding counts: on a device each text is padded to one length."""
    if config.attend_to_padding:
        raise errors.OptionError(
            "the model counts padding as a part of the text, so that its answers would depend on "
            "the length of the graph; train it without attend_to_padding"
        )
