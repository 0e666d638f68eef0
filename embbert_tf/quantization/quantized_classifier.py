"""Quantization-aware training: the folded classifier with every int8 tensor of the device in it.

The forward pass is that of `embbert_tf.quantization.folding`, and each activation named there goes
through a fake quantizer, in the same place and with the same granularity as on the device. The
weights stay those of the fp32 classifier: they are folded anew in every step, and the folded value
is quantized (straight-through, by tensorflow-model-optimization), as it is the folded value that
ships.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf import errors
from embbert_tf.model import classifier as classifier_lib
from embbert_tf.model import special_tokens
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.quantization import fake_quant, folded_classifier, folding, learnt_ranges
from embbert_tf.quantization import ranges as ranges_lib


@keras.utils.register_keras_serializable(package="embbert_tf")
class QuantizedClassifier(learnt_ranges.LearntRanges, folded_classifier.FoldedClassifier):
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
        learning: If True the ranges learn, and the steps of 4-bit weights.
        weight_bits: Of the token table and of the dense matrices: 8, or 4 with learnt steps.
        **kwargs: Of `keras.Model`.

    Call arguments:
        ids: int32 (batch, n), n <= max_length, `[PAD]` = 0 at the end; of a pair of texts the
            second one begins at the first `[SEP]`.

    Returns:
        float32 (batch, num_labels), logits on the device's grid.
    """

    def __init__(
        self,
        config: EmbBertConfig | dict,
        num_labels: int,
        learning: bool = False,
        weight_bits: int = 8,
        **kwargs: Any,
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
        self.activation_quantizers = self.quantizers_of(folding.activation_names(config))
        self.weight_bits = weight_bits
        self.weight_quantizers = self._make_weight_quantizers()
        if learning:
            self.learn_ranges()
            for quantizer in self.code_quantizers().values():
                quantizer.learn()

    def _make_weight_quantizers(self) -> dict[str, keras.layers.Layer]:
        """Returns weight name to quantizer."""
        config, hidden = self.config, self.config.hidden_size
        layers = range(config.num_layers)
        channels: dict[str, int | None] = {
            "token": config.reduced_size,
            "position": config.reduced_size,
        }
        channels |= {f"conv{layer}": hidden * config.expansion for layer in layers}
        names = ["embed", "head"]
        for layer in layers:
            names += [f"wq{layer}", f"wv{layer}", f"wz{layer}"]
        coded = {}
        if self.weight_bits == 4:
            # Per channel where the device has a scale a channel anyhow.
            coded = dict.fromkeys(names, (hidden, "channel"))
            coded |= {"embed": (hidden, "one"), "head": (self.num_labels, "one")}
            coded["token"] = (config.reduced_size, "most")
        return {
            name: fake_quant.CodeQuantizer(*coded[name], name=f"weight_{name}")
            if name in coded
            else fake_quant.WeightQuantizer(channels.get(name), name=f"weight_{name}")
            for name in [*channels, *names]
        }

    def code_quantizers(self) -> dict[str, fake_quant.CodeQuantizer]:
        """Returns name to quantizer of the weights of 4 bits; none if `weight_bits` is 8."""
        return {
            name: quantizer
            for name, quantizer in self.weight_quantizers.items()
            if isinstance(quantizer, fake_quant.CodeQuantizer)
        }

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
        if self.weight_bits == 4:
            self._start_steps()

    def _start_steps(self) -> None:
        """Sets the steps of 4-bit weights to those of least squared error."""
        folded, quantizers = folding.fold(self.classifier), self.code_quantizers()
        for layer, block in enumerate(folded.blocks):
            for name in folding.DENSE:
                quantizers[f"{name}{layer}"].start_from(getattr(block, name))
        quantizers["head"].start_from(folded.head_w)
        quantizers["token"].start_from(folded.token)
        folded = dataclasses.replace(folded, scales={"token": quantizers["token"].scale()})
        quantizers["embed"].start_from(folded.scaled_expansion())

    def settled(self) -> "QuantizedClassifier":
        """Returns a copy that has the present ranges and steps as constants."""
        config = self.get_config() | {"learning": False}
        copy = self.from_config({key: config[key] for key in config if key != "name"})
        copy.classifier.set_weights(self.classifier.get_weights())
        copy.restore_ranges(self.ranges())
        copy.restore_steps(self.steps())
        return copy

    def steps(self) -> dict[str, list[float]]:
        """Returns the name of each weight of 4 bits to the steps of its channels."""
        return {name: layer.steps().tolist() for name, layer in self.code_quantizers().items()}

    def restore_steps(self, steps: Mapping[str, Sequence[float]]) -> None:
        """Sets the steps to what `steps` returned once.

        Raises:
            ValueError: A weight is missing or unknown, or has another number of channels.
        """
        quantizers = self.code_quantizers()
        for name in sorted({*steps} ^ {*quantizers}):
            raise ValueError(f"steps of {name} are {'unknown' if name in steps else 'missing'}")
        for name, values in steps.items():
            quantizers[name].set_steps(np.asarray(values, np.float32))

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

    def _table_scale(self, name, table):
        quantizer = self.weight_quantizers[name]
        if isinstance(quantizer, fake_quant.CodeQuantizer):
            return quantizer.present_scale()
        return super()._table_scale(name, table)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "config": self.config.to_dict(),
            "num_labels": self.num_labels,
            "learning": self.learning,
            "weight_bits": self.weight_bits,
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


def quantize(
    classifier: keras.Model, representative_ids: Any, weight_bits: int = 8
) -> QuantizedClassifier:
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
        weight_bits: Of the token table and of the dense matrices: 8, or 4, which halve a model.

    Returns:
        A `QuantizedClassifier` with the classifier's weights, whose ranges start from those of
        least squared error on the sample and learn. It is not compiled.

    Raises:
        OptionError: `classifier` is not an `EmbBertClassifier`, or has a weight that is no finite
            number, or `weight_bits` is neither.
        DataError: The ids are none that the classifier can read.
    """
    if not isinstance(classifier, classifier_lib.EmbBertClassifier):
        raise errors.OptionError(
            f"only an EmbBertClassifier can be quantized, not a {type(classifier).__name__}"
        )
    if weight_bits not in (4, 8):
        raise errors.OptionError(f"weight_bits is 8 or 4, not {weight_bits!r}")
    ranges_lib.check_finite(classifier)
    sequences = ranges_lib.sequences_of(representative_ids, classifier.config)
    quantized = QuantizedClassifier.from_config(
        {
            "config": classifier.config,
            "num_labels": classifier.num_labels,
            "learning": True,
            "weight_bits": weight_bits,
        }
    )
    quantized.start_from(classifier, sequences)
    return quantized
