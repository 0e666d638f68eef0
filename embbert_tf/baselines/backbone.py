"""What the backbones of the compared models have in common."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf.baselines import embedder as embedder_lib
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.baselines.ops import TensorOps
from embbert_tf.model import special_tokens


class BaselineBackbone(keras.Model):
    """A model without a head; a subclass adds what comes after the embedder.

    Args:
        config: A `BaselineConfig`, or the dictionary of one.
        **kwargs: Of `keras.Model`.

    Call arguments:
        ids: int32 (batch, n), n <= max_length, `[PAD]` = 0 at the end.

    Returns:
        float32 (batch, n, hidden_size), hidden states.
    """

    def __init__(self, config: BaselineConfig | dict, **kwargs: Any):
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = BaselineConfig.from_dict(config)
        self.config = config
        self.embedder = embedder_lib.BaselineEmbedder(
            config.vocab_size,
            config.max_length,
            config.hidden_size,
            config.reduced_size,
            name="embedder",
        )

    def run(self, ops: Any, last: bool = False) -> tuple[Any, Any]:
        """Computes the hidden states.

        Args:
            ops: What computes: `TensorOps`, or what has its methods.
            last: Whether the one row that a head reads is wanted.

        Returns:
            (batch, n or 1, D); and the gain and the shift, (D,) each, that belong to it, or None
            where none do.
        """
        raise NotImplementedError

    def ops(self, ids: tf.Tensor, training: bool | None = None) -> TensorOps:
        """Returns what computes the model in float on token ids (batch, n)."""
        return TensorOps(ids, training, self.config.dropout, self.config.attend_to_padding)

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Computes the hidden states."""
        x, affine = self.run(self.ops(ids, training))
        return x if affine is None else x * affine[0] + affine[1]

    def head_rows(self, hidden: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Returns what a head reads of hidden states (batch, n, D), (batch, D)."""
        return (self.ops(ids).pool(hidden) if self.config.pooled else hidden)[:, 0]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"name": self.name, "trainable": self.trainable, "config": self.config.to_dict()}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "BaselineBackbone":
        """Builds the model from `get_config`'s dictionary."""
        del custom_objects
        return cls(**config)

    def _finish(self) -> None:
        """Calls the model, once its weights are there: Keras saves what was called."""
        self(np.full((1, 2), special_tokens.CLS, np.int32))
