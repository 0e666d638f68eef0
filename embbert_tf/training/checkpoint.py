"""The state of a training: weights, optimizer and history in one file."""

import json
import pathlib
import zipfile
from typing import Any

import numpy as np
from tensorflow import keras

from embbert_tf import errors
from embbert_tf.data import files


def save_state(
    path: pathlib.Path,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    best: list[np.ndarray],
    state: dict[str, Any],
) -> None:
    """Writes everything that a training needs to go on, in one atomic step.

    Args:
        path: File to write, of NumPy's `.npz` format.
        model: Its present weights are saved.
        optimizer: Likewise its variables.
        best: The weights that are kept so far, in the order of `model.get_weights()`.
        state: What else there is, of JSON's types.

    Raises:
        FileError: The file cannot be written; the old one is untouched.
    """
    arrays = {f"m{i}": w for i, w in enumerate(model.get_weights())}
    arrays |= {f"o{i}": v.numpy() for i, v in enumerate(optimizer.variables)}
    arrays |= {f"b{i}": w for i, w in enumerate(best)}
    arrays["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)

    def write(temporary: pathlib.Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)

    files.write_atomic(path, write)


def load_state(
    path: pathlib.Path, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Puts the state into a model and its optimizer, which is built already.

    Returns:
        `best` and `state` as they were given to `save_state`.

    Raises:
        FileError: The file is damaged, or of another training.
    """
    weights, variables = model.get_weights(), optimizer.variables
    try:
        with np.load(path) as data:
            own, kept, slots = (
                [data[f"{kind}{i}"] for i in range(count)]
                for kind, count in (
                    ("m", len(weights)),
                    ("b", len(weights)),
                    ("o", len(variables)),
                )
            )
            state = json.loads(data["state"].tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _unusable(path) from error
    shapes = [np.shape(array) for array in (*own, *kept, *slots)]
    if shapes != [tuple(v.shape) for v in (*weights, *weights, *variables)]:
        raise _unusable(path)
    model.set_weights(own)
    for variable, value in zip(variables, slots, strict=True):
        variable.assign(value)
    return kept, state


def _unusable(path: pathlib.Path) -> errors.FileError:
    return errors.FileError(
        f"{path}: not the state of this training; delete it to start the training anew"
    )
