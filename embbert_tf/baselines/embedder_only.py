"""The embedder alone, or with a convolution after it."""

from typing import Any

from tensorflow import keras

from embbert_tf.baselines import backbone, initializers
from embbert_tf.baselines.config import BaselineConfig


@keras.utils.register_keras_serializable(package="embbert_tf")
class EmbedderOnly(backbone.BaselineBackbone):
    """The published `NanoEmbedder` and `NanoEmbedderConv`: what EmbBERT has without its blocks.

    Example:
    ```python
    from embbert_tf.baselines import config, embedder_only
    import tensorflow as tf

    model = embedder_only.EmbedderOnly(config.ARCHITECTURES["embedder"])
    hidden = model(tf.constant([[2, 7, 9, 0]]))  # (1, 4, 320)
    ```

    Args:
        config: A `BaselineConfig` of the kind "embedder", or the dictionary of one.
        **kwargs: Of `keras.Model`.
    """

    def __init__(self, config: BaselineConfig | dict, **kwargs: Any):
        super().__init__(config, **kwargs)
        config = self.config
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
        self._finish()

    def run(self, ops: Any, last: bool = False) -> tuple[Any, Any]:
        """Computes the hidden states; arguments and result are those of `BaselineBackbone.run`."""
        x = self.embedder.run(ops, "x0")
        if self.conv_kernel is not None:
            x = ops.convolution("x1", x, ops.read(self.conv_kernel), ops.read(self.conv_bias))
        return (ops.pool(x) if last else x), None
