"""The run folder of an untrained classifier, made in a second."""

import csv
import pathlib
import random

import pytest

from embbert_tf.baselines import any_model
from embbert_tf.data import files
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.model.config import PRESETS
from embbert_tf.storage import run_folder

THINGS = ["light", "lamp", "music", "heating", "door", "radio", "window", "fan"]
ROOMS = ["kitchen", "hall", "cellar", "office", "garden", "attic"]


def write(folder: pathlib.Path, config: any_model.AnyConfig = PRESETS["test"]) -> list[str]:
    """Writes `data.csv`, 40 rows of the label on, then 40 of off, and `run`; returns the texts.

    The model has the sizes of `config`, but for the vocabulary, which is the texts'.
    """
    keras = pytest.importorskip("tensorflow").keras

    rng = random.Random(0)
    rows = [
        (f"turn {way} the {rng.choice(THINGS)} in the {rng.choice(ROOMS)}", way)
        for way in ("on", "off")
        for _ in range(40)
    ]
    with open(folder / "data.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    tokenizer = tokenizer_lib.train_tokenizer([text for text, _ in rows], 120)
    run = folder / "run"
    run.mkdir()
    tokenizer.save(str(run / run_folder.TOKENIZER))
    fields = config.to_dict() | {"vocab_size": tokenizer.get_vocab_size()}
    keras.utils.set_random_seed(1)
    model = any_model.new_classifier(any_model.config_of(fields), num_labels=2)
    model.save(run / run_folder.FP32)
    settings = {"config": fields, "task": "classification", "pair": False}
    files.write_json(run / run_folder.CONFIG, settings)
    run_folder.write_labels(run / run_folder.LABELS, ["off", "on"])
    return [text for text, _ in rows]
