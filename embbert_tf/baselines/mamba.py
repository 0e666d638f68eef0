"""MAMBA 2 MB and MAMBA with the nano embedder, without a head."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.baselines import embedder as embedder_lib
from embbert_tf.baselines import mamba_layer
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.baselines.ops import TensorOps


@keras.utils.register_keras_serializable(package="embbert_tf")
class Mamba(keras.layers.Layer):
    """Embedder and selective state space layers: token ids to hidden states.

    Example:
    ```python
    from embbert_tf.baselines import config, mamba, ops
    import tensorflow as tf

    backbone = mamba.Mamba(config.ARCHITECTURES["mamba"])
    hidden, _ = backbone.run(ops.TensorOps(tf.constant([[2, 7, 9, 0]])))  # (1, 4, 64)
    ```

    Args:
        config: A `BaselineConfig` of the kind "mamba", or the dictionary of one.
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
            mamba_layer.MambaLayer(
                config.hidden_size,
                config.inner_size,
                config.kernel_size,
                config.state_size,
                config.step_rank,
                name=f"layer_{index}",
            )
            for index in range(config.num_layers)
        ]

    def run(self, ops: TensorOps, last: bool = False) -> tuple[tf.Tensor, Any]:
        """Computes the hidden states.

        Args:
            ops: What computes.
            last: Whether one row is wanted: the root mean square over the tokens.

        Returns:
            (batch, n or 1, D), and None: no gain belongs to it.
        """
        x = self.embedder.run(ops, "x0")
        for index, layer in enumerate(self.layers):
            x = layer.run(ops, index, x)
        return (ops.pool(x) if last else x), None

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "config": self.config.to_dict()}
