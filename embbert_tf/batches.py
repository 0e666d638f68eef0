"""Encoded examples and the batches made of them."""

import dataclasses

import numpy as np
import tensorflow as tf

from embbert_tf import data
from embbert_tf import tokenizer as tokenizer_lib


@dataclasses.dataclass(frozen=True)
class EncodedExamples:
    """Token ids and targets.

    Attributes:
        ids: One int32 array an example, without padding.
        targets: int32 class indices, or float32 scores for regression; (count,).
        labels: Class names in the order of the indices; empty for regression.
    """

    ids: list[np.ndarray]
    targets: np.ndarray
    labels: list[str]

    def select(self, indices) -> "EncodedExamples":
        """Returns the examples at some indices, in their order."""
        return EncodedExamples(
            [self.ids[index] for index in indices], self.targets[indices], self.labels
        )


def encode_examples(examples, tokenizer, labels, max_length, path) -> EncodedExamples:
    """Encodes rows of a CSV file.

    Args:
        examples: Rows from `data.read_examples`.
        tokenizer: Tokenizer of the run.
        labels: Known classes, or an empty list for regression.
        max_length: Longest sequence in tokens.
        path: Where the rows came from, for messages.

    Raises:
        data.DataError: if there are no rows, or a label is unknown or not a number.
    """
    index_of = {label: index for index, label in enumerate(labels)}
    ids, targets = [], []
    for example in examples:
        if labels and example.label not in index_of:
            raise data.DataError(
                f"{path}: label {example.label!r} does not occur in the training data"
            )
        targets.append(index_of[example.label] if labels else data.score(example, path))
        ids.append(
            np.array(
                tokenizer_lib.encode(tokenizer, example.text, example.text_pair, max_length),
                np.int32,
            )
        )
    if not ids:
        raise data.DataError(f"{path}:1: no rows after the header")
    return EncodedExamples(ids, np.array(targets, np.int32 if labels else np.float32), labels)


def pad(ids: list[np.ndarray]) -> np.ndarray:
    """Pads sequences to the longest of them, int32 (count, longest)."""
    result = np.zeros((len(ids), max(row.size for row in ids)), np.int32)
    for row, values in zip(result, ids, strict=True):
        row[: values.size] = values
    return result


def hold_out(examples: EncodedExamples, fraction: float, seed: int):
    """Splits off a validation set, stratified by class.

    Returns:
        Two `EncodedExamples`: the rest, and the share held out. A class with one example stays in
        the rest.
    """
    rng = np.random.default_rng(seed)
    held = []
    groups = (
        [np.flatnonzero(examples.targets == index) for index in range(len(examples.labels))]
        if examples.labels
        else [np.arange(len(examples.ids))]
    )
    for group in groups:
        held.extend(rng.permutation(group)[: min(round(len(group) * fraction), len(group) - 1)])
    chosen = np.zeros(len(examples.ids), bool)
    chosen[held] = True
    return examples.select(np.flatnonzero(~chosen)), examples.select(np.flatnonzero(chosen))


def training_dataset(
    examples: EncodedExamples,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    token_dropout: float = 0.0,
) -> tuple[tf.data.Dataset, int]:
    """Makes endless shuffled batches of sequences of like length.

    Each epoch is drawn from (seed, epoch), so that a resumed training sees the batches that it
    would have seen.

    Args:
        examples: Training examples.
        batch_size: Sequences a batch.
        seed: Seed.
        first_epoch: Epoch to begin with.
        token_dropout: Probability of replacing a token by `[UNK]`, which teaches the model to do
            without a word that it does not know.

    Returns:
        A dataset of (ids int32 (batch, longest), targets) and the number of batches an epoch.
        Targets are one-hot float32 (batch, L), or (batch, 1) for regression.
    """
    count, classes = len(examples.ids), len(examples.labels)
    lengths = np.array([row.size for row in examples.ids])
    steps = -(-count // batch_size)

    def generate():
        epoch = first_epoch
        while True:
            rng = np.random.default_rng([seed, epoch])
            # The noise mixes neighbouring lengths, so that batches differ from epoch to epoch.
            order = np.argsort(lengths + rng.uniform(0.0, 2.0, count))
            for step in rng.permutation(steps):
                chosen = order[step * batch_size : (step + 1) * batch_size]
                ids = pad([examples.ids[index] for index in chosen])
                if token_dropout:
                    dropped = (rng.random(ids.shape) < token_dropout) & (ids > tokenizer_lib.SEP)
                    ids[dropped] = tokenizer_lib.UNK
                targets = examples.targets[chosen]
                if classes:
                    yield ids, np.eye(classes, dtype=np.float32)[targets]
                else:
                    yield ids, targets[:, np.newaxis]
            epoch += 1

    signature = (
        tf.TensorSpec((None, None), tf.int32),
        tf.TensorSpec((None, classes or 1), tf.float32),
    )
    return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(4), steps


def predict(model, ids: list[np.ndarray], batch_size: int = 128) -> np.ndarray:
    """Computes the logits of many sequences, float32 (count, L), in the order given."""

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def step(batch):
        return model(batch, training=False)

    order = np.argsort([row.size for row in ids], kind="stable")
    result = np.zeros((len(ids), model.num_labels), np.float32)
    for start in range(0, len(ids), batch_size):
        chosen = order[start : start + batch_size]
        result[chosen] = step(pad([ids[index] for index in chosen])).numpy()
    return result
