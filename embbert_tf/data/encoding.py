"""From rows to what a model learns and is measured on: token ids and targets."""

from collections.abc import Sequence

import numpy as np
import tokenizers

from embbert_tf import errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.data.examples import Example
from embbert_tf.data.files import PathLike

_MOST_NAMED = 10  # labels that a message lists


def encode_all(
    tokenizer: tokenizers.Tokenizer, examples: Sequence[Example], pair: bool, max_length: int
) -> list[list[int]]:
    """Returns the token ids of each example.

    Args:
        tokenizer: The model's.
        examples: Rows; of pairs both texts, if `pair`.
        pair: Whether the model reads pairs.
        max_length: Most ids a row.
    """
    return [
        tokenizer_lib.encode(tokenizer, e.text, e.text_pair if pair else None, max_length)
        for e in examples
    ]


def targets_of(examples: Sequence[Example], labels: Sequence[str], path: PathLike) -> np.ndarray:
    """Returns int64 (count,) class indices, or float64 (count,) scores if there are no labels.

    Args:
        examples: Labelled rows.
        labels: Class names in the order of the logits; empty for a regression.
        path: Where the rows came from, for the message.

    Raises:
        DataError: A label that training does not have, or a score that is no number.
    """
    if not labels:
        return np.array([examples_lib.score(e, path) for e in examples], np.float64)
    index = {label: i for i, label in enumerate(labels)}
    for e in examples:
        if e.label not in index:
            more = f" and {len(labels) - _MOST_NAMED} more" if len(labels) > _MOST_NAMED else ""
            raise errors.DataError(
                f"{path}{f':{e.line}' if e.line else ''}: label {e.label!r} does not occur in the "
                f"training data; it has {', '.join(labels[:_MOST_NAMED])}{more}"
            )
    return np.array([index[e.label] for e in examples], np.int64)
