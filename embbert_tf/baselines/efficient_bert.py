"""BERT with efficient attention, with and without the nano embedder, without a head."""

from typing import Any

from tensorflow import keras

from embbert_tf.baselines import backbone, efficient_layer
from embbert_tf.baselines.config import BaselineConfig


@keras.utils.register_keras_serializable(package="embbert_tf")
class EfficientBert(backbone.BaselineBackbone):
    """Embedder and layers of efficient attention: token ids to hidden states.

    Example:
    ```python
    from embbert_tf.baselines import config, efficient_bert
    import tensorflow as tf

    model = efficient_bert.EfficientBert(config.ARCHITECTURES["bert_ea"])
    hidden = model(tf.constant([[2, 7, 9, 0]]))  # (1, 4, 84)
    ```

    Args:
        config: A `BaselineConfig` of the kind "efficient", or the dictionary of one.
        **kwargs: Of `keras.Model`.
    """

    def __init__(self, config: BaselineConfig | dict, **kwargs: Any):
        super().__init__(config, **kwargs)
        config = self.config
        self.blocks = [
            efficient_layer.EfficientLayer(
                config.hidden_size, config.feed_forward, name=f"layer_{index}"
            )
            for index in range(config.num_layers)
        ]
        self._finish()

    def run(self, ops: Any, last: bool = False) -> tuple[Any, Any]:
        """Computes the hidden states; arguments and result are those of `BaselineBackbone.run`."""
        x = self.embedder.run(ops, "x0")
        for index, layer in enumerate(self.blocks):
            x = layer.run(ops, index, x, last and index == len(self.blocks) - 1)
        return x, None
