"""Token, position and segment embedding of the compared models."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.baselines import initializers
from embbert_tf.baselines.ops import TensorOps


@keras.utils.register_keras_serializable(package="embbert_tf")
class BaselineEmbedder(keras.layers.Layer):
    """`x = E_tok[id] + E_pos[position] + E_seg[segment]`, or with narrow tables expanded to D.

    The published `STD_Embedder` and `Nano_Embedder`. The segment comes from the ids, as in
    `embbert_tf.model.embedder`.

    Example:
    ```python
    from embbert_tf.baselines import embedder, ops
    import tensorflow as tf

    layer = embedder.BaselineEmbedder(vocab_size=100, max_length=32, hidden_size=16)
    x = layer.run(ops.TensorOps(tf.constant([[2, 7, 9, 0]])), "x0")  # (1, 4, 16)
    ```

    Args:
        vocab_size: Rows of the token table, V.
        max_length: Rows of the position table, S.
        hidden_size: Width of the result, D.
        reduced_size: Width of both tables, R; 0 for D and no expansion.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        hidden_size: int,
        reduced_size: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.hidden_size = hidden_size
        self.reduced_size = reduced_size
        width = reduced_size or hidden_size
        self.token = self.add_weight(
            name="token", shape=(vocab_size, width), initializer=initializers.padded_table
        )
        self.position = self.add_weight(
            name="position", shape=(max_length, width), initializer=initializers.table
        )
        self.segment = self.add_weight(
            name="segment", shape=(3, hidden_size), initializer=initializers.padded_table
        )
        if reduced_size:
            uniform = initializers.UniformByInputs(reduced_size)
            self.token_expander, self.position_expander = (
                self.add_weight(
                    name=f"{name}_expander", shape=(reduced_size, hidden_size), initializer=uniform
                )
                for name in ("token", "position")
            )

    def run(self, ops: TensorOps, name: str) -> tf.Tensor:
        """Returns the activation `name`, (batch, n, D)."""
        token, position = ops.read(self.token), ops.read(self.position)
        expander = None
        if self.reduced_size:
            expander = ops.read(self.token_expander)
            position = position @ ops.read(self.position_expander)
        return ops.embed(name, token, expander, position, ops.read(self.segment))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "max_length": self.max_length,
            "hidden_size": self.hidden_size,
            "reduced_size": self.reduced_size,
        }
