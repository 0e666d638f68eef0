"""Labelled text as a model folder sees it: token ids and targets."""

import random

from converters.tflite import model_folder
from embbert_tf import errors
from embbert_tf.data import examples as examples_lib


def is_drawn(path: str, limit: int) -> bool:
    """Returns whether `read_sample` leaves rows of the file out."""
    return bool(limit) and limit < sum(1 for _ in examples_lib.read_examples(path))


def read_sample(path: str, limit: int = 0, seed: int = 0) -> list[examples_lib.Example]:
    """Returns the rows of a CSV file, or a seeded sample of `limit` of them.

    Raises:
      DataError: The file cannot be read, or has no rows.
    """
    examples = list(examples_lib.read_examples(path))
    if limit and limit < len(examples):
        examples = random.Random(seed).sample(examples, limit)
    if not examples:
        raise errors.DataError(f"{path}: no rows")
    return examples


def read_rows(
    folder: model_folder.ModelFolder, path: str, limit: int = 0, seed: int = 0
) -> tuple[list[list[int]], list]:
    """Returns the token ids and the targets (class index or score) of a CSV file's rows.

    Raises:
      DataError: The file cannot be used with this model.
    """
    examples = read_sample(path, limit, seed)
    index = {label: number for number, label in enumerate(folder.labels)}
    sequences, targets = [], []
    for number, example in enumerate(examples):
        if folder.pair and example.text_pair is None:
            raise errors.DataError(f"{path}: the model takes pairs, but text_pair is missing")
        sequences.append(folder.encode(example.text, example.text_pair if folder.pair else None))
        if folder.task == "regression":
            targets.append(examples_lib.score(example, path))
        elif example.label in index:
            targets.append(index[example.label])
        else:
            raise errors.DataError(
                f"{path}: row {number + 1} has the label '{example.label}', which the model does "
                f"not know; it knows {', '.join(folder.labels)}"
            )
    return sequences, targets
