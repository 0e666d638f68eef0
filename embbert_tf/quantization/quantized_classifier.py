"""Quantization-aware training: the folded classifier with every int8 tensor of the device in it.

The forward pass is that of `embbert_tf.quantization.folding`, and each activation named there goes
through a fake quantizer, in the same place and with the same granularity as on the device. The
weights stay those of the fp32 classifier: they are folded anew in every step, and the folded value
is quantized (straight-through, by tensorflow-model-optimization), as it is the folded value that
ships.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf import errors
from embbert_tf.model import classifier as classifier_lib
from embbert_tf.model import special_tokens
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.quantization import fake_quant, folded_classifier, folding
from embbert_tf.quantization import ranges as ranges_lib


@keras.utils.register_keras_serializable(package="embbert_tf")
class QuantizedClassifier(folded_classifier.FoldedClassifier):
    """A classifier as the device computes it, for fine-tuning; `quantize` makes one.

    It has two forms. While it learns, the ends of its ranges are trainable and those of
    `ranges.NEVER_CUT` grow; settled, they are constants, as on the device. Both are ordinary Keras
    models, are saved to a `.keras` file and loaded as what they are, and convert to the same
    `.tflite`.

    Example:
    ```python
    import numpy as np
    import embbert_tf
    from embbert_tf.quantization.quantized_classifier import QuantizedClassifier

    model = QuantizedClassifier(embbert_tf.PRESETS["test"], num_labels=3)
    logits = model(np.array([[2, 7, 9, 0]]))  # (1, 3)
    model.ranges()["x0"]  # (-6.0, 6.0)
    ```

    Args:
        config: An `EmbBertConfig`, or the dictionary of one.
        num_labels: Number of logits, L; 1 for regression.
        learning: If True the ranges learn.
        **kwargs: Of `keras.Model`.

    Call arguments:
        ids: int32 (batch, n), n <= max_length, `[PAD]` = 0 at the end; of a pair of texts the
            second one begins at the first `[SEP]`.

    Returns:
        float32 (batch, num_labels), logits on the device's grid.
    """

    def __init__(
        self, config: EmbBertConfig | dict, num_labels: int, learning: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = EmbBertConfig.from_dict(config)
        self.config = config
        self.num_labels = num_labels
        self.learning = learning
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
        if learning:
            for name, quantizer in self.activation_quantizers.items():
                if folding.kind(name) in ranges_lib.NEVER_CUT:
                    quantizer.grow()
                else:
                    quantizer.learn()

    def start_from(self, classifier: keras.Model, sequences: Iterable[Sequence[int]]) -> None:
        """Takes over trained weights, and the ranges of least squared error on a sample.

        Args:
            classifier: A trained `EmbBertClassifier` of the same sizes.
            sequences: Lists of token ids, without padding.
        """
        self.classifier.set_weights(classifier.get_weights())
        meter = ranges_lib.RangeMeter(folding.fold(self.classifier))
        for ids in sequences:
            meter.run(ids)
        self.restore_ranges(meter.ranges("mse"))

    def settled(self) -> "QuantizedClassifier":
        """Returns a copy that has the present ranges as constants."""
        copy = self.from_config({"config": self.config, "num_labels": self.num_labels})
        copy.classifier.set_weights(self.classifier.get_weights())
        copy.restore_ranges(self.ranges())
        return copy

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Returns activation name to (low, high)."""
        return {name: layer.range() for name, layer in self.activation_quantizers.items()}

    def restore_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Sets the ranges to what `ranges` returned once.

        Raises:
            ValueError: An activation is missing or unknown.
        """
        for name in sorted({*ranges} ^ {*self.activation_quantizers}):
            raise ValueError(f"range of {name} {'is unknown' if name in ranges else 'is missing'}")
        for name, (low, high) in ranges.items():
            self.activation_quantizers[name].set_range(low, high)

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Computes the logits, fake-quantized."""
        return self.folded_logits(ids, training)

    def _activation(self, name, x, training):
        return self.activation_quantizers[name](x, training=training)

    def _share(self, x):
        """Rounds what lies between 0 and 1 as TFLM does in softmax and sigmoid."""
        return tf.quantization.fake_quant_with_min_max_args(x, 0.0, 255 / 256)

    def _weight(self, name, w):
        return self.weight_quantizers[name](w)

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
    ) -> "QuantizedClassifier":
        """Builds the model from `get_config`'s dictionary."""
        del custom_objects
        model = cls(**config)
        # The graph of a subclassed model is built by its first call.
        model(np.full((1, 2), special_tokens.CLS, np.int32))
        return model


def quantize(classifier: keras.Model, representative_ids: Any) -> QuantizedClassifier:
    """Makes a classifier compute as the device will, ready for fine-tuning.

    Example:
    ```python
    import numpy as np
    import embbert_tf
    from tensorflow import keras

    classifier = embbert_tf.EmbBertClassifier.from_preset("test", num_labels=2)
    ids, labels = np.array([[2, 10, 20, 0], [2, 30, 20, 40]] * 8), np.array([0, 1] * 8)

    quantized = embbert_tf.quantize(classifier, ids)
    quantized.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    quantized.fit(ids, labels, verbose=0)
    ```

    Args:
        classifier: A trained `EmbBertClassifier`, which stays as it is.
        representative_ids: Token ids of some hundred texts like those that the model will read, for
            instance of the training texts: an integer array (texts, n) with `[PAD]` = 0 at the end,
            or texts of different lengths as a list of lists or a `tf.RaggedTensor`.

    Returns:
        A `QuantizedClassifier` with the classifier's weights, whose ranges start from those of
        least squared error on the sample and learn. It is not compiled.

    Raises:
        OptionError: `classifier` is not an `EmbBertClassifier`, or has a weight that is no finite
            number.
        DataError: The ids are none that the classifier can read.
    """
    if not isinstance(classifier, classifier_lib.EmbBertClassifier):
        raise errors.OptionError(
            f"only an EmbBertClassifier can be quantized, not a {type(classifier).__name__}"
        )
    for weight in classifier.weights:
        if not np.isfinite(weight.numpy()).all():
            raise errors.OptionError(
                f"the classifier's {weight.name} holds a value that is no finite number: its "
                "training diverged; train it anew with a lower learning rate"
            )
    sequences = ranges_lib.sequences_of(representative_ids, classifier.config)
    quantized = QuantizedClassifier.from_config(
        {"config": classifier.config, "num_labels": classifier.num_labels, "learning": True}
    )
    quantized.start_from(classifier, sequences)
    return quantized
