"""MAMBA 2 MB and MAMBA with the nano embedder, without a head."""

from typing import Any

from tensorflow import keras

from embbert_tf.baselines import backbone, mamba_layer
from embbert_tf.baselines.config import BaselineConfig


@keras.utils.register_keras_serializable(package="embbert_tf")
class Mamba(backbone.BaselineBackbone):
    """Embedder and selective state space layers: token ids to hidden states.

    Example:
    ```python
    from embbert_tf.baselines import config, mamba
    import tensorflow as tf

    model = mamba.Mamba(config.ARCHITECTURES["mamba"])
    hidden = model(tf.constant([[2, 7, 9, 0]]))  # (1, 4, 64)
    ```

    Args:
        config: A `BaselineConfig` of the kind "mamba", or the dictionary of one.
        **kwargs: Of `keras.Model`.
    """

    def __init__(self, config: BaselineConfig | dict, **kwargs: Any):
        super().__init__(config, **kwargs)
        config = self.config
        self.blocks = [
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
        self._finish()

    def run(self, ops: Any, last: bool = False) -> tuple[Any, Any]:
        """Computes the hidden states; arguments and result are those of `BaselineBackbone.run`."""
        x = self.embedder.run(ops, "x0")
        for index, layer in enumerate(self.blocks):
            x = layer.run(ops, index, x)
        return (ops.pool(x) if last else x), None
