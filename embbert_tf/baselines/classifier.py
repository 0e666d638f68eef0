"""A compared model with a classification or regression head."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf.baselines import any_model
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.model import special_tokens
from embbert_tf.model.classifier import checked_num_labels


@keras.utils.register_keras_serializable(package="embbert_tf")
class BaselineClassifier(keras.Model):
    """One dense layer on row 0 of a transformer, on the root mean square of the others' rows.

    The published heads `SequenceClassifier` and `RMSClassifier`; the latter's mean here leaves out
    padding.

    Example:
    ```python
    import numpy as np
    from embbert_tf.baselines import classifier, config

    model = classifier.BaselineClassifier(config.ARCHITECTURES["bert"], num_labels=3)
    logits = model(np.array([[2, 7, 9, 0]]))  # (1, 3)
    ```

    Args:
        config: A `BaselineConfig`, or the dictionary of one.
        num_labels: Number of logits, L; 1 for regression.
        dropout: Probability of dropping an input of the head while training.
        **kwargs: Of `keras.Model`.

    Call arguments:
        ids: int32 (batch, n), n <= max_length, `[PAD]` = 0 at the end; of a pair of texts the
            second one begins at the first `[SEP]`.

    Returns:
        float32 (batch, num_labels), logits.

    Raises:
        OptionError: `num_labels` is not a positive integer.
    """

    def __init__(
        self, config: BaselineConfig | dict, num_labels: int, dropout: float = 0.1, **kwargs: Any
    ):
        num_labels = checked_num_labels(num_labels)
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = BaselineConfig.from_dict(config)
        self.config = config
        self.num_labels = num_labels
        self.dropout = dropout
        self.backbone = any_model.new_backbone(config, name="backbone")
        self.drop = keras.layers.Dropout(dropout, name="drop")
        self.head = keras.layers.Dense(self.num_labels, name="head")
        self.head.build((None, config.hidden_size))
        self(np.full((1, 2), special_tokens.CLS, np.int32))  # Keras saves what was called once.

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Computes the logits."""
        return self.logits(self.backbone.ops(ids, training), training)[:, 0]

    def rows(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns what the head reads, (batch, D)."""
        x, affine = self.backbone.run(self.backbone.ops(ids, training), last=True)
        return (x if affine is None else x * affine[0] + affine[1])[:, 0]

    def logits(self, ops: Any, training: bool | None = None) -> Any:
        """Returns the activation `logits` of one row, (batch, 1, L), as `ops` computes it.

        Args:
            ops: `TensorOps`, or what has its methods.
            training: As in Keras.
        """
        x, affine = self.backbone.run(ops, last=True)
        kernel, bias = ops.read(self.head.kernel), ops.read(self.head.bias)
        if affine is not None:
            gain, shift = affine
            kernel, bias = gain[:, None] * kernel, bias + (shift[None] @ kernel)[0]
        x = self.drop(x, training=training) if training else x
        return ops.dense("logits", x, kernel, bias)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "config": self.config.to_dict(),
            "num_labels": self.num_labels,
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "BaselineClassifier":
        """Builds the model from `get_config`'s dictionary."""
        del custom_objects
        return cls(**config)
