"""The state of a training: weights, optimizer and history in one file."""

import json
import pathlib

import numpy as np

from embbert_tf.data import files


def save_state(path: pathlib.Path, model, optimizer, best, state: dict) -> None:
    arrays = {f"m{i}": w for i, w in enumerate(model.get_weights())}
    arrays |= {f"o{i}": v.numpy() for i, v in enumerate(optimizer.variables)}
    arrays |= {f"b{i}": w for i, w in enumerate(best)}
    arrays["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)

    def write(temporary):
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)

    files.write_atomic(path, write)


def load_state(path: pathlib.Path, model, optimizer):
    with np.load(path) as data:
        model.set_weights([data[f"m{i}"] for i in range(len(model.get_weights()))])
        for i, variable in enumerate(optimizer.variables):
            variable.assign(data[f"o{i}"])
        best = [data[f"b{i}"] for i in range(len(model.get_weights()))]
        return best, json.loads(data["state"].tobytes())
