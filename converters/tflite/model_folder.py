"""The folder that passes from conversion to evaluation and firmware.

`model.tflite`, `tokenizer.json`, `labels.txt` (one a line; empty for a regression) and
`model.json`:

| key | meaning |
| --- | --- |
| `task` | "classification" or "regression" |
| `pair` | whether a text comes in two parts |
| `max_length` | tokens of the graph's input, padding included |
| `inputs` | name, shape, type and meaning of each input |
| `output` | name, shape, type, scale and zero point of the logits |
| `recipe` | the quantization scheme, decoded |
| `confidence_threshold` | an answer less probable than this is "unsure"; 0 turns that off |
| `schedule` | how the graph is cut for TFLM's memory planner |
| `sha256` | of `model.tflite` |
| `versions`, `generator` | what made it |
| `metrics` | accuracy of the run that was converted |
"""

import dataclasses
import hashlib
import pathlib

import numpy as np
import tokenizers

from converters.tflite import reader
from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.model import special_tokens
from embbert_tf.storage import run_folder

TFLITE = "model.tflite"
TOKENIZER = "tokenizer.json"
LABELS = "labels.txt"
SETTINGS = "model.json"


class ModelFolderError(ValueError):
    """A model folder that is incomplete or inconsistent; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """A loaded model folder.

    Attributes:
      path: The folder.
      tflite: The file's bytes.
      tokenizer: The tokenizer.
      labels: Class names; empty for a regression.
      settings: `model.json`.
    """

    path: pathlib.Path
    tflite: bytes
    tokenizer: tokenizers.Tokenizer
    labels: list[str]
    settings: dict

    @property
    def max_length(self) -> int:
        """Tokens of the graph's input."""
        return int(self.settings["max_length"])

    @property
    def pair(self) -> bool:
        """Whether the model takes two texts."""
        return bool(self.settings["pair"])

    @property
    def task(self) -> str:
        """Either "classification" or "regression"."""
        return self.settings["task"]

    def encode(self, text: str, text_pair: str | None = None) -> list[int]:
        """Returns the token ids of a text, without padding."""
        return tokenizer_lib.encode(self.tokenizer, text, text_pair, self.max_length)


def load(path) -> ModelFolder:
    """Reads a model folder.

    Args:
      path: The folder, or the `model.tflite` in it.

    Raises:
      ModelFolderError: Something is missing or does not belong together.
    """
    path = pathlib.Path(path)
    if path.is_file():
        path = path.parent
    for name in (TFLITE, TOKENIZER, LABELS, SETTINGS):
        if not (path / name).is_file():
            raise ModelFolderError(
                f"{path}: no model folder, {name} is missing; "
                "`python converters/convert_tflite.py` makes one"
            )
    try:
        settings = files.read_json(path / SETTINGS)
        labels = run_folder.read_labels(path / LABELS)
        tokenizer = tokenizer_lib.load_tokenizer(path / TOKENIZER)
    except (errors.RunError, errors.TokenizerError) as error:
        raise ModelFolderError(str(error)) from error
    for key in ("task", "pair", "max_length", "sha256"):
        if key not in settings:
            raise ModelFolderError(f"{path / SETTINGS}: '{key}' is missing; convert the run again")
    tflite = (path / TFLITE).read_bytes()
    if hashlib.sha256(tflite).hexdigest() != settings["sha256"]:
        raise ModelFolderError(
            f"{path / TFLITE}: not the file that {SETTINGS} describes (SHA-256 differs); "
            "convert the run again"
        )
    if not reader.is_tflite(tflite):
        raise ModelFolderError(f"{path / TFLITE}: not a .tflite")
    return ModelFolder(path, tflite, tokenizer, labels, settings)


def pad(ids: list[int], length: int) -> np.ndarray:
    """Returns ids as int32 (1, length), padded with [PAD]."""
    result = np.full((1, length), special_tokens.PAD, np.int32)
    result[0, : len(ids)] = ids
    return result
