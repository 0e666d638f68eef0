"""EmbBERT without a task head."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.model import block
from embbert_tf.model import embedder as embedder_lib
from embbert_tf.model.config import EmbBertConfig


@keras.utils.register_keras_serializable(package="embbert_tf")
class EmbBertBackbone(keras.Model):
    """Embedder and blocks (arXiv 2502.10001, section 4): token ids to hidden states.

    A functional Keras model. At the default sizes it has 357,248 parameters.

    Example:
    ```python
    import embbert_tf
    import tensorflow as tf

    backbone = embbert_tf.EmbBertBackbone(embbert_tf.PRESETS["test"])
    hidden = backbone(tf.constant([[2, 7, 9, 0]]))  # (1, 4, 16)
    ```

    Args:
        config: An `EmbBertConfig`, or the dictionary of one.
        first_row_only: If True the last block computes row 0 alone: a classifier reads nothing
            else, and at long inputs a quarter of the work is saved. Pre-training needs all rows.
            The weights are the same either way.
        **kwargs: Of `keras.Model`.

    Call arguments:
        ids: int32 (batch, n), n <= max_length, `[PAD]` = 0 at the end.

    Returns:
        float32 (batch, n or 1, hidden_size).
    """

    def __init__(self, config: EmbBertConfig | dict, first_row_only: bool = False, **kwargs: Any):
        if isinstance(config, dict):
            config = EmbBertConfig.from_dict(config)
        embedder = embedder_lib.NanoEmbedder(
            config.vocab_size,
            config.max_length,
            config.hidden_size,
            config.reduced_size,
            name="embedder",
        )
        blocks = [
            block.EmbBertBlock(
                config.kernel_size,
                config.expansion,
                config.dropout,
                first_row_only=first_row_only and index == config.num_layers - 1,
                name=f"block_{index}",
            )
            for index in range(config.num_layers)
        ]

        ids = keras.Input(shape=(None,), dtype="int32", name="ids")
        x = embedder(ids)
        for layer in blocks:
            x = layer(x)  # The embedder's mask travels along.

        super().__init__(inputs=ids, outputs=x, **kwargs)
        self.config = config
        self.first_row_only = first_row_only
        self.embedder = embedder
        self.blocks = blocks

    def head_rows(self, hidden: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Returns what a head reads of hidden states (batch, n, D) of ids: row 0, (batch, D)."""
        del ids
        return hidden[:, 0]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "config": self.config.to_dict(),
            "first_row_only": self.first_row_only,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "EmbBertBackbone":
        """Builds the model from `get_config`'s dictionary."""
        del custom_objects
        return cls(**config)
