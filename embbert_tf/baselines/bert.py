"""BERT 2 MB and NanoBERT without a head."""

from typing import Any

from tensorflow import keras

from embbert_tf.baselines import backbone, transformer_layer
from embbert_tf.baselines.config import BaselineConfig


@keras.utils.register_keras_serializable(package="embbert_tf")
class Bert(backbone.BaselineBackbone):
    """Embedder and post-norm layers: token ids to hidden states.

    The published models attend to padding, so that an answer depends on how far a text was padded;
    here it is masked unless `config.attend_to_padding` asks for theirs.

    Example:
    ```python
    from embbert_tf.baselines import config, bert
    import tensorflow as tf

    model = bert.Bert(config.ARCHITECTURES["bert"])
    hidden = model(tf.constant([[2, 7, 9, 0]]))  # (1, 4, 80)
    ```

    Args:
        config: A `BaselineConfig` of the kind "transformer", or the dictionary of one.
        **kwargs: Of `keras.Model`.
    """

    def __init__(self, config: BaselineConfig | dict, **kwargs: Any):
        super().__init__(config, **kwargs)
        config = self.config
        self.blocks = [
            transformer_layer.TransformerLayer(
                config.hidden_size, config.num_heads, config.feed_forward, name=f"layer_{index}"
            )
            for index in range(config.num_layers)
        ]
        for layer in self.blocks[1:]:  # `torch.nn.TransformerEncoder` copies its first one.
            layer.set_weights(self.blocks[0].get_weights())
        self._finish()

    def run(self, ops: Any, last: bool = False) -> tuple[Any, Any]:
        """Computes the hidden states; arguments and result are those of `BaselineBackbone.run`."""
        x, affine = self.embedder.run(ops, "xhat0"), None
        for index, layer in enumerate(self.blocks):
            x, affine = layer.run(ops, index, x, affine, last and index == len(self.blocks) - 1)
        return x, affine
