"""The backbone with the heads of pre-training, and their losses.

Masked words and the next sentence are BERT's. The bag of words, a sentence encoder's
embedding and the closeness of two texts make row 0, which classifiers read, know the whole text.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

from embbert_tf.baselines import any_model
from embbert_tf.baselines.any_model import AnyConfig
from embbert_tf.model.special_tokens import SEP
from embbert_tf.pretraining import likeness
from embbert_tf.pretraining.options import PretrainOptions

# Names of the sums that `losses` returns.
SUMS = (
    "masked_loss",
    "masked_hits",
    "masked",
    "pair_hits",
    "pairs",
    "words_loss",
    "bags",
    "cosine",
    "embedded",
    "closeness_error",
    "close_pairs",
)
_RELATIONS = 0.2  # Weight of the relations within a batch, as a share of the cosine's.
_CLOSENESS = 10.0  # That of the squared error of a pair's cosine.


@keras.utils.register_keras_serializable(package="embbert_tf")
class EmbBertPretrainer(keras.Model):
    """Backbone with the heads of pre-training.

    Masked tokens: hidden·W + b at the masked positions alone, W (D, V). Next sentence: row 0·w + b.
    Of row 0, too: the logits of the words of the text (D, V), its embedding (D, d), the closeness
    of two texts (D, 1), before its tanh; `losses` asks for them. In place of row 0 a model whose
    classifier pools has the pooled row.

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
        config: An `EmbBertConfig` or a `BaselineConfig`, or the dictionary of one. Its dropout is
            left out here: a model this small underfits its corpus, and without it a resumed run
            needs no random state.
        bag_of_words: Whether it has the head of the text's words.
        embedding_size: d, of a sentence encoder's embeddings; 0 without one.
        **kwargs: Of `keras.Model`.

    Call arguments:
        inputs: ids int32 (B, n), and masked positions int32 (B, P).

    Returns:
        Logits of the masked tokens, float32 (B, P, V), and of "follows", float32 (B,).
    """

    def __init__(
        self,
        config: AnyConfig | dict,
        bag_of_words: bool = False,
        embedding_size: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = any_model.config_of(config)
        self.config = config
        self.backbone = any_model.new_backbone(
            dataclasses.replace(config, dropout=0.0), name="backbone"
        )
        self.embedding_size = embedding_size
        self.masked_token = _over_words(config, "masked_token")
        self.next_sentence = keras.layers.Dense(1, name="next_sentence")
        self.words = _over_words(config, "words") if bag_of_words else None
        self.embedding = self.closeness = None
        if embedding_size:
            self.embedding = keras.layers.Dense(embedding_size, name="embedding")
            self.closeness = keras.layers.Dense(1, name="closeness")

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Applies backbone and heads."""
        ids, positions = inputs
        hidden = self.backbone(ids)
        first = self.backbone.head_rows(hidden, ids)
        for head in (self.words, self.embedding, self.closeness):
            if head is not None and not head.built:
                head.build(first.shape)
        masked = tf.gather(hidden, positions, batch_dims=1)
        return self.masked_token(masked), self.next_sentence(first)[:, 0]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "config": self.config.to_dict(),
            "bag_of_words": self.words is not None,
            "embedding_size": self.embedding_size,
        }


def _over_words(config: AnyConfig, name: str) -> keras.layers.Dense:
    """Returns a layer with an output for each token of the vocabulary."""
    initializer = keras.initializers.RandomNormal(stddev=0.02)
    return keras.layers.Dense(config.vocab_size, kernel_initializer=initializer, name=name)


def losses(
    model: EmbBertPretrainer,
    batch: Sequence[tf.Tensor],
    rows: tf.Tensor | int,
    options: PretrainOptions,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes what a batch, or a replica's share of it, adds to the global batch's figures.

    Args:
        model: `EmbBertPretrainer`.
        batch: The tensors of `batches.Batch`.
        rows: Rows of the global batch, a scalar.
        options: `bag_of_words` and `teacher_weight`.

    Returns:
        The loss's share, and float32 (len(SUMS),), sums over the rows in the order of `SUMS`.
    """
    ids, words, positions, labels, weights, follows, is_pair, embeddings, closeness, is_close = (
        batch
    )
    hidden = model.backbone(ids)
    first = model.backbone.head_rows(hidden, ids)
    tokens = model.masked_token(tf.gather(hidden, positions, batch_dims=1))
    following = model.next_sentence(first)[:, 0]
    token_loss = weights * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tokens)
    pair_loss = is_pair * tf.nn.sigmoid_cross_entropy_with_logits(follows, following)
    token_hits = weights * tf.cast(
        tf.equal(tf.argmax(tokens, axis=-1, output_type=tf.int32), labels), tf.float32
    )
    pair_hits = is_pair * tf.cast(tf.equal(following > 0, follows > 0.5), tf.float32)
    sums = [tf.reduce_sum(value) for value in (token_loss, token_hits, weights, pair_hits, is_pair)]
    # Divided by what is the same on every replica: the shares then add up to the same loss
    # however the batch was split.
    rows = tf.cast(rows, tf.float32)
    places = tf.cast(tf.shape(positions)[1], tf.float32)
    loss = sums[0] / (rows * places) + tf.reduce_sum(pair_loss) / rows
    zero = tf.zeros([])
    bag = cosine = relations = error = bags = embedded = zero
    if model.words is not None:
        bag, bags = _bag_of_words(model.words(first), words)
        loss += options.bag_of_words * bag / rows
    if model.closeness is not None:
        guess = tf.tanh(model.closeness(first)[:, 0])  # As a cosine, between -1 and 1.
        error = tf.reduce_sum(is_close * tf.square(guess - closeness))
        loss += options.teacher_weight * _CLOSENESS * error / rows
    if model.embedding is not None and embeddings.shape[1]:
        guess = model.embedding(first)
        cosine = tf.reduce_sum(likeness.cosines(guess, embeddings))
        relations = tf.reduce_sum(likeness.divergences(guess, embeddings))
        embedded = tf.cast(tf.shape(ids)[0], tf.float32)
        loss += options.teacher_weight * (embedded - cosine + _RELATIONS * relations) / rows
    sums += [bag, bags, cosine, embedded, error, tf.reduce_sum(is_close)]
    return loss, tf.stack(sums)


def _bag_of_words(logits: tf.Tensor, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sum over the rows of the words' mean cross-entropy, and the rows that count."""
    counts = tf.cast(words > SEP, tf.float32)
    chances = tf.gather(tf.nn.log_softmax(logits), words, batch_dims=1)
    size = tf.reduce_sum(counts, axis=1)
    loss = -tf.reduce_sum(counts * chances, axis=1) / tf.maximum(size, 1.0)
    return tf.reduce_sum(loss), tf.reduce_sum(tf.cast(size > 0, tf.float32))
