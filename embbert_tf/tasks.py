"""What training and quantization-aware training share: rows to ids, targets and metrics."""

import csv
import pathlib
import random

import numpy as np

from embbert_tf import data as data_lib
from embbert_tf import metrics as metrics_lib
from embbert_tf import run as run_lib
from embbert_tf import tokenizer as tokenizer_lib

VALID_CSV = "valid.csv"


def digest(path: str | None) -> str | None:
    """Returns the SHA-256 of a file of the user's, in hexadecimal; None of None.

    Raises:
        DataError: It cannot be read.
    """
    if path is None:
        return None
    try:
        return run_lib.sha256(path)
    except OSError as error:
        raise data_lib.DataError(f"{path}: cannot be opened ({error.strerror or error})") from error


def split(examples: list, share: float, seed: int) -> tuple[list, list]:
    """Holds out a stratified share of the examples; at least one of each class stays.

    Args:
        examples: `data.Example`s.
        share: Of each class to hold out.
        seed: Of the choice.

    Returns:
        (kept, held out), both in file order.
    """
    rng = random.Random(seed)
    by_class: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        by_class.setdefault(example.label, []).append(index)
    held: set[int] = set()
    spare = 0.0
    for label in sorted(by_class):
        members = by_class[label]
        rng.shuffle(members)
        # Small classes (scores, above all) share what is left of each other's tenths.
        wanted = share * len(members) + spare
        count = min(int(wanted), len(members) - 1)
        spare = wanted - count
        held.update(members[:count])
    kept = [e for i, e in enumerate(examples) if i not in held]
    return kept, [examples[i] for i in sorted(held)]


def write_csv(path: pathlib.Path, examples: list) -> None:
    """Writes examples as a CSV file, atomically."""

    def write(temporary):
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            pair = examples[0].text_pair is not None
            writer.writerow(["text", "text_pair", "label"] if pair else ["text", "label"])
            for e in examples:
                writer.writerow([e.text, e.text_pair, e.label] if pair else [e.text, e.label])

    run_lib.write_atomic(path, write)


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
        return np.array([data_lib.score(e, path) for e in examples], np.float32)
    index = {label: i for i, label in enumerate(labels)}
    for e in examples:
        if e.label not in index:
            raise data_lib.DataError(
                f"{path}: label {e.label!r} does not occur in the training data; it has "
                f"{', '.join(labels)}"
            )
    return np.array([index[e.label] for e in examples], np.int64)


def measure(model, data, labels, max_length) -> dict:
    """Returns the metrics of a model on (token ids, targets)."""
    from embbert_tf import batches

    logits = batches.predict(model, data[0], max_length)
    if labels:
        return metrics_lib.classification(logits, data[1], labels)
    return metrics_lib.regression(logits, data[1])
