"""BERT 2 MB and NanoBERT without a head."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.baselines import embedder as embedder_lib
from embbert_tf.baselines import transformer_layer
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.baselines.ops import TensorOps


@keras.utils.register_keras_serializable(package="embbert_tf")
class Bert(keras.layers.Layer):
    """Embedder and post-norm layers: token ids to hidden states.

    The published models attend to padding, so that an answer depends on how far a text was padded;
    here it is masked unless `config.attend_to_padding` asks for theirs.

    Example:
    ```python
    from embbert_tf.baselines import config, bert, ops
    import tensorflow as tf

    backbone = bert.Bert(config.ARCHITECTURES["bert"])
    hidden, _ = backbone.run(ops.TensorOps(tf.constant([[2, 7, 9, 0]])))  # (1, 4, 80)
    ```

    Args:
        config: A `BaselineConfig` of the kind "transformer", or the dictionary of one.
        **kwargs: Of `keras.layers.Layer`.
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
        self.layers = [
            transformer_layer.TransformerLayer(
                config.hidden_size, config.num_heads, config.feed_forward, name=f"layer_{index}"
            )
            for index in range(config.num_layers)
        ]
        for layer in self.layers[1:]:  # `torch.nn.TransformerEncoder` copies its first one.
            layer.set_weights(self.layers[0].get_weights())

    def run(self, ops: TensorOps, last: bool = False) -> tuple[tf.Tensor, Any]:
        """Computes the hidden states.

        Args:
            ops: What computes.
            last: Whether row 0 alone is wanted.

        Returns:
            (batch, n or 1, D), normalized, and the gain and the shift, (D,) each, of the last
            normalization.
        """
        x, affine = self.embedder.run(ops, "xhat0"), None
        for index, layer in enumerate(self.layers):
            final = last and index == len(self.layers) - 1
            x, affine = layer.run(ops, index, x, affine, final)
        return x, affine

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "config": self.config.to_dict()}
