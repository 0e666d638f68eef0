"""What training and quantization-aware training share: rows to ids, targets and metrics."""

import numpy as np

from embbert_tf import errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import tokenizer as tokenizer_lib


def encode_all(tokenizer, examples: list, pair: bool, max_length: int) -> list[list[int]]:
    """Returns the token ids of each example."""
    return [
        tokenizer_lib.encode(tokenizer, e.text, e.text_pair if pair else None, max_length)
        for e in examples
    ]


def targets_of(examples: list, labels: list[str], path) -> np.ndarray:
    """Returns class indices, or scores when there are no labels.

    Raises:
        DataError: A label that training does not have, or a score that is no number.
    """
    if not labels:
        return np.array([examples_lib.score(e, path) for e in examples], np.float32)
    index = {label: i for i, label in enumerate(labels)}
    for e in examples:
        if e.label not in index:
            raise errors.DataError(
                f"{path}: label {e.label!r} does not occur in the training data; it has "
                f"{', '.join(labels)}"
            )
    return np.array([index[e.label] for e in examples], np.int64)
