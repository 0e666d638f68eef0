"""Batches of token ids, padded to the longest text in them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf.model import special_tokens

# Batches are cut from this many neighbours sorted by length: little padding, enough disorder.
_SORTED_BATCHES = 50


def pad(sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns int32 (count, width): sequences padded to the longest of them."""
    ids = np.full((len(sequences), max(map(len, sequences))), special_tokens.PAD, np.int32)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = sequence
    return ids


def drop_tokens(ids: np.ndarray, share: float, vocab_size: int, rng: np.random.Generator) -> None:
    """Replaces a share of the tokens in place: 7 of 10 by [UNK], the rest by random ones.

    Keeps a small model from learning texts by heart by their rare words.
    """
    chosen = (rng.random(ids.shape) < share) & (ids > special_tokens.SEP)
    count = int(chosen.sum())
    others = rng.integers(special_tokens.SEP + 1, vocab_size, count)
    ids[chosen] = np.where(rng.random(count) < 0.7, special_tokens.UNK, others)


def dataset(
    sequences: Sequence[Sequence[int]],
    targets: np.ndarray,
    batch_size: int,
    shuffle_seed: tuple[int, ...] | None = None,
    token_dropout: float = 0.0,
    vocab_size: int = 0,
) -> tf.data.Dataset:
    """Returns batches (ids, targets) of one epoch, each as wide as its longest text.

    Args:
        sequences: Token ids of each text.
        targets: One target a text.
        batch_size: Texts a batch.
        shuffle_seed: Seeds of order and token dropout, such as (seed, epoch); None keeps the order.
        token_dropout: Share of tokens to replace; only with a `shuffle_seed`.
        vocab_size: Of the tokens that replace others.
    """
    targets = np.asarray(targets)

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.arange(len(sequences))
        rng = None
        if shuffle_seed is not None:
            rng = np.random.default_rng(shuffle_seed)
            rng.shuffle(order)
            run = batch_size * _SORTED_BATCHES
            order = np.concatenate(
                [
                    sorted(order[start : start + run], key=lambda i: len(sequences[i]))
                    for start in range(0, len(order), run)
                ]
            )
        parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        if rng is not None:
            parts = [parts[i] for i in rng.permutation(len(parts))]
        for part in parts:
            ids = pad([sequences[i] for i in part])
            if rng is not None and token_dropout:
                drop_tokens(ids, token_dropout, vocab_size, rng)
            yield ids, targets[part]

    signature = (
        tf.TensorSpec((None, None), tf.int32),
        tf.TensorSpec((None, *targets.shape[1:]), tf.as_dtype(targets.dtype)),
    )
    return _generated(generate, signature, -(-len(sequences) // batch_size))


def _generated(
    generate: Callable[[], Iterator], signature: tuple[tf.TensorSpec, ...], count: int
) -> tf.data.Dataset:
    """Returns a dataset of `count` batches, made while others are in use."""
    data = tf.data.Dataset.from_generator(generate, output_signature=signature)
    data = data.apply(tf.data.experimental.assert_cardinality(count)).prefetch(4)
    # There is nothing to tune, and Keras waits for the tuner's thread at the end of an epoch: it
    # sleeps 10 ms, then twice as long each time, up to a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def predict(
    model: keras.Model, sequences: Sequence[Sequence[int]], batch_size: int = 128
) -> np.ndarray:
    """Returns float32 logits (count, L), computed in order of length and put back in order.

    Args:
        model: A Keras model from ids to logits.
        sequences: Token ids of each text; one at least.
        batch_size: Texts a batch.
    """
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    function = _inference_function(model)
    rows = [function(pad([sequences[i] for i in part])).numpy() for part in parts]
    logits = np.empty((len(order), rows[0].shape[-1]), np.float32)
    logits[order] = np.concatenate(rows)
    return logits


def _inference_function(model: keras.Model) -> Callable[[np.ndarray], tf.Tensor]:
    """Returns the model as a function of ids (batch, n); the model keeps it.

    A third quicker to build than that of `keras.Model.predict`: AutoGraph, which finds nothing to
    convert in our layers, is left out, and no loop is around it.
    """
    function = getattr(model, "_inference_function", None)
    if function is None:
        spec = tf.TensorSpec((None, None), tf.int32)
        function = tf.function(
            lambda ids: model(ids, training=False), input_signature=[spec], autograph=False
        )
        # Past Keras's own __setattr__, which would track the function as a part of the model.
        object.__setattr__(model, "_inference_function", function)
    return function
