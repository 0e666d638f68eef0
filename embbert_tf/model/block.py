"""One EmbBERT layer."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.model import attention, convolution, rms_norm


@keras.utils.register_keras_serializable(package="embbert_tf")
class EmbBertBlock(keras.layers.Layer):
    """Norm, two branches, weighted difference (arXiv 2502.10001, section 4).

    `x ← RMSNorm(x); x ← exp(λq1·λk1)·attention(x) - exp(λq2·λk2)·convolution(x)`

    There is no other residual connection.

    Example:
    ```python
    from embbert_tf.model.block import EmbBertBlock
    import tensorflow as tf

    block = EmbBertBlock(kernel_size=4)
    y = block(tf.random.normal([1, 9, 16]))  # (1, 9, 16)
    ```

    Args:
        kernel_size: Taps of the convolution, K.
        expansion: Convolution channels per hidden channel, E.
        dropout: Probability of dropping an attention weight while training.
        first_row_only: If True the block yields row 0 alone, which is all that a classifier reads
            of the last block. The rows below still serve as keys and values.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        x: float32 (batch, n, D).
        mask: bool (batch, n), False at padding; None if there is none.

    Returns:
        float32 (batch, n or 1, D).
    """

    def __init__(
        self,
        kernel_size: int = 32,
        expansion: int = 1,
        dropout: float = 0.1,
        first_row_only: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.expansion = expansion
        self.dropout = dropout
        self.first_row_only = first_row_only
        self.norm = rms_norm.RMSNorm(name="norm")
        self.attention = attention.EfficientAttention(dropout, name="attention")
        self.convolution = convolution.ConvolutionBranch(kernel_size, expansion, name="convolution")

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the weights of all parts."""
        size = input_shape[-1]
        for layer in (self.norm, self.attention, self.convolution):
            if not layer.built:
                with tf.name_scope(layer.name):
                    layer.build(input_shape)
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
            self.add_weight(
                name=f"lambda_{name}",
                shape=(size,),
                initializer=keras.initializers.RandomNormal(stddev=0.1),
            )
            for name in ("q1", "k1", "q2", "k2")
        )
        super().build(input_shape)

    def attention_factor(self) -> tf.Tensor:
        """Returns the scalar α = exp(λq1·λk1)."""
        return tf.exp(tf.reduce_sum(self.lambda_q1 * self.lambda_k1))

    def convolution_factor(self) -> tf.Tensor:
        """Returns the scalar β = exp(λq2·λk2)."""
        return tf.exp(tf.reduce_sum(self.lambda_q2 * self.lambda_k2))

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, training: bool | None = None
    ) -> tf.Tensor:
        """Applies the layer."""
        x = self.norm(x)
        attended = self.attention(
            x, mask=mask, first_row_only=self.first_row_only, training=training
        )
        convolved = self.convolution(x, first_row_only=self.first_row_only)
        return self.attention_factor() * attended - self.convolution_factor() * convolved

    def compute_mask(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor | None:
        """Passes the mask on; a single row is the `[CLS]` row and needs none."""
        return None if self.first_row_only else mask

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "expansion": self.expansion,
            "dropout": self.dropout,
            "first_row_only": self.first_row_only,
        }
