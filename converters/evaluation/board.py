"""Runs a model on a board and compares its answers with the reference."""

import pathlib

import numpy as np


class ResultsError(ValueError):
    """The firmware's results are not of the expected form."""


def read_logits(path, rows: int, labels: int) -> np.ndarray:
    """Returns the int8 logits (rows, labels) that `make ... eval LOGITS=path` wrote.

    Raises:
      ResultsError: The file has another size.
    """
    data = np.frombuffer(pathlib.Path(path).read_bytes(), np.int8)
    if data.size != rows * labels:
        raise ResultsError(f"{path}: {data.size} bytes of logits, {rows} rows x {labels} expected")
    return data.reshape(rows, labels)
