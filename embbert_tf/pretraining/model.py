"""The backbone with the heads of pre-training, and their losses."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.model import backbone
from embbert_tf.model.config import EmbBertConfig


@keras.utils.register_keras_serializable(package="embbert_tf")
class EmbBertPretrainer(keras.Model):
    """Backbone with the two heads of pre-training.

    Masked tokens: hidden·W + b at the masked positions alone, W (D, V). Next sentence: row 0·w + b.

    Example:
    ```python
    import embbert_tf
    import tensorflow as tf
    from embbert_tf.pretraining.model import EmbBertPretrainer

    model = EmbBertPretrainer(embbert_tf.PRESETS["test"])
    ids, positions = tf.constant([[2, 7, 3, 9]]), tf.constant([[2]])
    tokens, follows = model((ids, positions))  # (1, 1, 256), (1,)
    ```

    Args:
        config: An `EmbBertConfig`, or the dictionary of one. Its dropout is left out here: a model
            this small underfits its corpus, and without it a resumed run needs no random state.
        **kwargs: Of `keras.Model`.

    Call arguments:
        inputs: ids int32 (B, n), and masked positions int32 (B, P).

    Returns:
        Logits of the masked tokens, float32 (B, P, V), and of "follows", float32 (B,).
    """

    def __init__(self, config: EmbBertConfig | dict, **kwargs: Any):
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = EmbBertConfig.from_dict(config)
        self.config = config
        self.backbone = backbone.EmbBertBackbone(
            dataclasses.replace(config, dropout=0.0), name="backbone"
        )
        self.masked_token = keras.layers.Dense(
            config.vocab_size,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="masked_token",
        )
        self.next_sentence = keras.layers.Dense(1, name="next_sentence")

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Applies backbone and heads."""
        ids, positions = inputs
        hidden = self.backbone(ids)
        masked = tf.gather(hidden, positions, batch_dims=1)
        return self.masked_token(masked), self.next_sentence(hidden[:, 0])[:, 0]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"name": self.name, "config": self.config.to_dict()}


def losses(
    model: EmbBertPretrainer, batch: Sequence[tf.Tensor], rows: tf.Tensor | int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes what a batch, or a replica's share of it, adds to the global batch's figures.

    Args:
        model: `EmbBertPretrainer`.
        batch: The six tensors of `batches.Batch`.
        rows: Rows of the global batch, a scalar.

    Returns:
        The loss's share, and float32 (5,): sums of the masked tokens' cross-entropy, of those
        guessed right, of all masked tokens, of pairs guessed right, and of all pairs.
    """
    ids, positions, labels, weights, follows, is_pair = batch
    tokens, following = model((ids, positions))
    token_loss = weights * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tokens)
    pair_loss = is_pair * tf.nn.sigmoid_cross_entropy_with_logits(follows, following)
    # Divided by what is the same on every replica: the shares then add up to the same loss
    # however the batch was split.
    rows = tf.cast(rows, tf.float32)
    places = tf.cast(tf.shape(positions)[1], tf.float32)
    loss = tf.reduce_sum(token_loss) / (rows * places) + tf.reduce_sum(pair_loss) / rows
    token_hits = weights * tf.cast(
        tf.equal(tf.argmax(tokens, axis=-1, output_type=tf.int32), labels), tf.float32
    )
    pair_hits = is_pair * tf.cast(tf.equal(following > 0, follows > 0.5), tf.float32)
    sums = tf.stack(
        [
            tf.reduce_sum(token_loss),
            tf.reduce_sum(token_hits),
            tf.reduce_sum(weights),
            tf.reduce_sum(pair_hits),
            tf.reduce_sum(is_pair),
        ]
    )
    return loss, sums
