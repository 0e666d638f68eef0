"""The nano embedder: narrow tables, expanded to the hidden size."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.model import special_tokens
from embbert_tf.model.linear import linear


class _ZeroFirstRow(keras.initializers.Initializer):
    """Normal values with row 0, which belongs to padding, at zero."""

    def __init__(self, stddev):
        self.stddev = stddev

    def __call__(self, shape, dtype=None, **kwargs):
        values = keras.initializers.RandomNormal(stddev=self.stddev)(shape, dtype=dtype)
        return tf.concat([tf.zeros_like(values[:1]), values[1:]], axis=0)

    def get_config(self) -> dict[str, Any]:
        return {"stddev": self.stddev}


@keras.utils.register_keras_serializable(package="embbert_tf")
class NanoEmbedder(keras.layers.Layer):
    """Token, position and segment embedding (arXiv 2502.10001, section 4, "Nano Embedder").

    `x = E_tok[id]·W_tok + E_pos[position]·W_pos + E_seg[segment]`

    The segment comes from the ids themselves: 0 at `[PAD]`, 1 before the first `[SEP]`, 2 from it
    on. The rows of `E_tok` and `E_seg` for padding start at zero and, since nothing attends to
    padding, stay there. Emits a Keras mask: True where the id is not `[PAD]`.

    Example:
    ```python
    from embbert_tf.model.embedder import NanoEmbedder
    import tensorflow as tf

    x = NanoEmbedder(vocab_size=100, max_length=32, hidden_size=16, reduced_size=4)(
        tf.constant([[2, 7, 9, 0]])
    )  # (1, 4, 16)
    ```

    Args:
        vocab_size: Rows of the token table, V.
        max_length: Rows of the position table, S.
        hidden_size: Width of the result, D.
        reduced_size: Width of both tables, R.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        ids: int32 (batch, n), n <= max_length.

    Returns:
        float32 (batch, n, hidden_size).
    """

    def __init__(
        self, vocab_size: int, max_length: int, hidden_size: int, reduced_size: int, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.hidden_size = hidden_size
        self.reduced_size = reduced_size

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the tables and the two expansions."""
        del input_shape
        # Unit variance after expansion: RMSNorm follows at once, so only the proportion of token,
        # position and segment matters, and the token must carry most of it.
        # One initializer object per table: a shared one would draw the same values twice.
        stddev = self.reduced_size**-0.5
        self.token = self.add_weight(
            name="token", shape=(self.vocab_size, self.reduced_size), initializer=_ZeroFirstRow(1.0)
        )
        self.token_expander = self.add_weight(
            name="token_expander",
            shape=(self.reduced_size, self.hidden_size),
            initializer=keras.initializers.RandomNormal(stddev=stddev),
        )
        self.position = self.add_weight(
            name="position",
            shape=(self.max_length, self.reduced_size),
            initializer=keras.initializers.RandomNormal(stddev=0.1),
        )
        self.position_expander = self.add_weight(
            name="position_expander",
            shape=(self.reduced_size, self.hidden_size),
            initializer=keras.initializers.RandomNormal(stddev=stddev),
        )
        self.segment = self.add_weight(
            name="segment", shape=(3, self.hidden_size), initializer=_ZeroFirstRow(0.1)
        )
        super().build(())

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Looks up and expands the three embeddings and adds them."""
        x = linear(tf.gather(self.token, ids), self.token_expander)
        x += self.position[: tf.shape(ids)[1]] @ self.position_expander
        return x + tf.gather(self.segment, self.segments(ids))

    @staticmethod
    def segments(ids: tf.Tensor) -> tf.Tensor:
        """Returns the segment of each position, int32 (batch, n)."""
        seen = tf.cumsum(tf.cast(tf.equal(ids, special_tokens.SEP), tf.int32), axis=1)
        return tf.where(tf.equal(ids, special_tokens.PAD), 0, 1 + tf.minimum(seen, 1))

    def compute_mask(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor | None:
        """Returns True where the id is not padding, bool (batch, n)."""
        del mask
        return tf.not_equal(inputs, special_tokens.PAD)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "max_length": self.max_length,
            "hidden_size": self.hidden_size,
            "reduced_size": self.reduced_size,
        }
