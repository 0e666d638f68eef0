"""A small model folder for the TFLM tests: random weights, a tokenizer of its own."""

import dataclasses
import hashlib
import json
import pathlib

from converters.tflite import writer
from embbert_tf.data import tokenizer as tokenizer_lib
from tests.support import portable_models
from tests.support.firmware_model import SENTENCES


def write_folder(
    path: pathlib.Path, *, pair: bool = False, length: int = 48, labels: int = 4
) -> bytes:
    """Writes a model folder and returns its portable `.tflite`."""
    config = dataclasses.replace(portable_models.SMALL, max_length=max(length, 64))
    graph = portable_models.build(
        portable_models.random_folded(config, labels=labels), length, pair=pair
    ).graph
    tflite = writer.write(graph)
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.tflite").write_bytes(tflite)
    tokenizer = tokenizer_lib.train_tokenizer(SENTENCES * 4, config.vocab_size)
    (path / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    names = "".join(f"label {number}\n" for number in range(labels)) if labels > 1 else ""
    (path / "labels.txt").write_text(names, encoding="utf-8")
    settings = {
        "task": "classification" if labels > 1 else "regression",
        "pair": pair,
        "max_length": length,
        "sha256": hashlib.sha256(tflite).hexdigest(),
        "confidence_threshold": 0.0,
    }
    (path / "model.json").write_text(json.dumps(settings), encoding="utf-8")
    return tflite
