"""Labelled text as a converted model sees it: token ids and targets."""

import random

import numpy as np

from converters.tflite import model_folder
from embbert_tf import errors
from embbert_tf.data import encoding
from embbert_tf.data import examples as examples_lib
from embbert_tf.data.files import PathLike


def is_drawn(path: PathLike, limit: int) -> bool:
    """Returns whether `read_sample` leaves rows of the file out."""
    return bool(limit) and limit < sum(1 for _ in examples_lib.read_examples(path))


def read_sample(path: PathLike, limit: int = 0, seed: int = 0) -> list[examples_lib.Example]:
    """Returns the rows of a CSV file, or a seeded sample of `limit` of them.

    Raises:
        DataError: The file cannot be read, or has no rows.
    """
    examples = list(examples_lib.read_examples(path))
    if limit and limit < len(examples):
        examples = random.Random(seed).sample(examples, limit)
    if not examples:
        raise errors.DataError(f"{path}: no rows after the header")
    return examples


def check_pairs(examples: list[examples_lib.Example], pair: bool, path: PathLike) -> None:
    """Holds the rows' second texts against what the model reads.

    Raises:
        DataError: The model reads pairs, and the rows are single texts.
    """
    if pair and any(example.text_pair is None for example in examples):
        raise errors.DataError(
            f"{path}: the model reads pairs of texts, but the column text_pair is missing"
        )


def read_rows(
    folder: model_folder.ModelFolder, path: PathLike, limit: int = 0, seed: int = 0
) -> tuple[list[list[int]], np.ndarray]:
    """Returns the token ids of a CSV file's rows, without padding, and their targets.

    Args:
        folder: The model that will read them.
        path: The CSV file.
        limit: Rows to take, drawn at random; 0 takes all.
        seed: Of the draw.

    Returns:
        Token ids of each row, and class indices or scores (count,).

    Raises:
        DataError: The file cannot be used with this model.
    """
    if folder.task == "encoder":
        raise errors.DataError(
            f"{folder.path or 'the model'}: an encoder, which has no labels of its own; "
            "`python -m converters.benchmarks.shots` teaches it some and measures it"
        )
    examples = read_sample(path, limit, seed)
    check_pairs(examples, folder.pair, path)
    targets = encoding.targets_of(examples, folder.labels, path)
    sequences = encoding.encode_all(folder.tokenizer, examples, folder.pair, folder.max_length)
    return sequences, targets
