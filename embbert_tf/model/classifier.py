"""EmbBERT with a classification or regression head."""

from tensorflow import keras

from embbert_tf.model import backbone as backbone_lib
from embbert_tf.model.config import EmbBertConfig


@keras.utils.register_keras_serializable(package="embbert_tf")
class EmbBertClassifier(keras.Model):
    """Backbone and one dense layer on the `[CLS]` row (arXiv 2502.10001, section 5).

    Example:
    ```python
    model = EmbBertClassifier(PRESETS["test"], num_labels=3)
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(ids, labels)  # (batch, n) int32, (batch,)
    ```

    Args:
        config: An `EmbBertConfig`, or the dictionary of one.
        num_labels: Number of logits, L; 1 for regression.
        dropout: Probability of dropping an input of the head while training.
        **kwargs: Of `keras.Model`.

    Call arguments:
        ids: int32 (batch, n), n <= max_length, `[PAD]` = 0 at the end.

    Returns:
        float32 (batch, num_labels), logits.
    """

    def __init__(self, config, num_labels, dropout=0.1, **kwargs):
        if isinstance(config, dict):
            config = EmbBertConfig.from_dict(config)
        backbone = backbone_lib.EmbBertBackbone(config, first_row_only=True, name="backbone")
        drop = keras.layers.Dropout(dropout, name="drop")
        head = keras.layers.Dense(num_labels, name="head")

        ids = keras.Input(shape=(None,), dtype="int32", name="ids")
        logits = head(drop(backbone(ids)[:, 0]))

        super().__init__(inputs=ids, outputs=logits, **kwargs)
        self.config = config
        self.num_labels = num_labels
        self.dropout = dropout
        self.backbone = backbone
        self.head = head

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "config": self.config.to_dict(),
            "num_labels": self.num_labels,
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Builds the model from `get_config`'s dictionary."""
        del custom_objects
        return cls(**config)
