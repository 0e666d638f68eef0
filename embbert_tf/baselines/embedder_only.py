"""The embedder alone, or with a convolution after it."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.baselines import embedder as embedder_lib
from embbert_tf.baselines import initializers
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.baselines.ops import TensorOps


@keras.utils.register_keras_serializable(package="embbert_tf")
class EmbedderOnly(keras.layers.Layer):
    """The published `NanoEmbedder` and `NanoEmbedderConv`: what EmbBERT has without its blocks.

    Example:
    ```python
    from embbert_tf.baselines import config, embedder_only, ops
    import tensorflow as tf

    backbone = embedder_only.EmbedderOnly(config.ARCHITECTURES["embedder"])
    hidden, _ = backbone.run(ops.TensorOps(tf.constant([[2, 7, 9, 0]])))  # (1, 4, 320)
    ```

    Args:
        config: A `BaselineConfig` of the kind "embedder", or the dictionary of one.
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
        self.conv_kernel = None
        if config.num_layers:
            uniform = initializers.UniformByInputs(config.kernel_size)
            self.conv_kernel = self.add_weight(
                name="conv_kernel",
                shape=(config.kernel_size, config.hidden_size),
                initializer=uniform,
            )
            self.conv_bias = self.add_weight(
                name="conv_bias", shape=(config.hidden_size,), initializer=uniform
            )

    def run(self, ops: TensorOps, last: bool = False) -> tuple[tf.Tensor, Any]:
        """Computes the hidden states.

        Args:
            ops: What computes.
            last: Whether one row is wanted: the root mean square over the tokens.

        Returns:
            (batch, n or 1, D), and None: no gain belongs to it.
        """
        x = self.embedder.run(ops, "x0")
        if self.conv_kernel is not None:
            x = ops.convolution("x1", x, ops.read(self.conv_kernel), ops.read(self.conv_bias))
        return (ops.pool(x) if last else x), None

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "config": self.config.to_dict()}
