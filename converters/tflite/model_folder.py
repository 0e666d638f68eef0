"""The folder that passes from conversion to evaluation and firmware.

A `.tflite` (`model.tflite` or any other name), `tokenizer.json`, `labels.txt` (one a line; empty
for a regression and an encoder) and `model.json`:

| key | meaning |
| --- | --- |
| `task` | "classification", "regression" or "encoder", whose logits are a row |
| `pair` | whether a text comes in two parts |
| `max_length` | tokens of the graph's input, padding included |
| `inputs` | name, shape, type and meaning of each input |
| `output` | name, shape, type, scale and zero point of the logits |
| `recipe` | the quantization scheme, decoded |
| `confidence_threshold` | an answer less probable, or less near, is "unsure"; 0 turns that off |
| `schedule` | how the graph is cut for TFLM's memory planner |
| `file` | name of the `.tflite`; `model.tflite` where the key is missing |
| `sha256` | of the `.tflite` |
| `versions`, `generator` | what made it |
| `metrics` | accuracy of the run that was converted |
"""

import dataclasses
import hashlib
import pathlib
from typing import Self

import numpy as np
import tokenizers

from converters.tflite import reader
from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.data.files import PathLike
from embbert_tf.model import special_tokens
from embbert_tf.storage import run_folder

TFLITE = "model.tflite"
TOKENIZER = "tokenizer.json"
LABELS = "labels.txt"
SETTINGS = "model.json"


class ModelFolderError(errors.EmbBertError):
    """A model folder that is incomplete or inconsistent; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """A converted model with all that belongs to it.

    Attributes:
        path: The folder; None before `save`.
        tflite: The file's bytes.
        tokenizer: The tokenizer.
        labels: Class names in the order of the logits; empty for a regression.
        settings: Content of `model.json`.
        tokenizer_json: Content of `tokenizer.json`; empty: as `tokenizer` writes it.
    """

    path: pathlib.Path | None
    tflite: bytes
    tokenizer: tokenizers.Tokenizer
    labels: list[str]
    settings: dict
    tokenizer_json: str = ""

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """Reads a model folder.

        Args:
            path: The folder, or the `.tflite` in it.

        Raises:
            ModelFolderError: Something is missing or does not belong together.
            FileError: A file cannot be read.
        """
        path = pathlib.Path(path)
        named = path.name if path.is_file() else None
        folder = path.parent if named else path
        _demand(folder, SETTINGS, TOKENIZER, LABELS)
        try:
            settings = files.read_json(folder / SETTINGS)
            labels = run_folder.read_labels(folder / LABELS)
            tokenizer = tokenizer_lib.load_tokenizer(folder / TOKENIZER)
        except errors.EmbBertError as error:
            raise ModelFolderError(str(error)) from error
        for key in ("task", "pair", "max_length", "sha256"):
            if key not in settings:
                raise ModelFolderError(
                    f"{folder / SETTINGS}: '{key}' is missing; convert the run again"
                )
        file = str(settings.get("file", TFLITE))
        if named and named.endswith(".tflite") and named != file:
            raise ModelFolderError(f"{path}: not the model of its folder, {SETTINGS} names {file}")
        _demand(folder, file)
        tflite = files.read_bytes(folder / file)
        if hashlib.sha256(tflite).hexdigest() != settings["sha256"]:
            raise ModelFolderError(
                f"{folder / file}: not the file that {SETTINGS} describes (SHA-256 differs); "
                "convert the run again"
            )
        if not reader.is_tflite(tflite):
            raise ModelFolderError(f"{folder / file}: not a .tflite")
        text = files.read_bytes(folder / TOKENIZER).decode("utf-8")
        return cls(folder, tflite, tokenizer, labels, settings, text)

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
        """One of `embbert_tf.storage.run_folder.TASKS`."""
        return self.settings["task"]

    @property
    def tflite_path(self) -> pathlib.Path:
        """The `.tflite` on disk.

        Raises:
            ModelFolderError: The model was never saved.
        """
        if self.path is None:
            raise ModelFolderError("the model was not saved yet; call save(folder) first")
        return self.path / self.settings.get("file", TFLITE)

    def encode(self, text: str, text_pair: str | None = None) -> list[int]:
        """Returns the token ids of a text, without padding, at most `max_length`."""
        return tokenizer_lib.encode(self.tokenizer, text, text_pair, self.max_length)

    def save(self, path: PathLike) -> Self:
        """Writes the model folder.

        Each file is put in place in one step, `model.json` last; until then the folder holds no
        valid model, so that no mix of two models passes for one.

        Args:
            path: The folder, which is made if it is missing, or a `.tflite` in it.

        Returns:
            The same model, with the folder as its path.

        Raises:
            ModelFolderError: The folder holds files that are not this model's to overwrite.
            FileError: The folder or a file in it cannot be written.
        """
        path = pathlib.Path(path)
        folder, name = (path.parent, path.name) if path.suffix == ".tflite" else (path, TFLITE)
        text = self.tokenizer_json or self.tokenizer.to_str(pretty=True)
        _check_target(folder, name, text, self.labels)
        settings = {**self.settings, "file": name}
        files.make_folder(folder)
        files.write_bytes(folder / name, self.tflite)
        files.write_text(folder / TOKENIZER, text)
        run_folder.write_labels(folder / LABELS, self.labels)
        files.write_json(folder / SETTINGS, settings)
        return dataclasses.replace(self, path=folder, settings=settings)


def _check_target(folder: pathlib.Path, name: str, tokenizer: str, labels: list[str]) -> None:
    """Refuses a folder in which files of something else would be overwritten.

    Raises:
        ModelFolderError: It holds another model, or another tokenizer or labels without a model.
        FileError: It is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise errors.FileError(f"{folder}: a file is in the way of the model folder; remove it")
    settings = folder / SETTINGS
    if settings.exists():
        held = files.read_json(settings).get("file", TFLITE)
        if held != name:
            raise ModelFolderError(
                f"{folder}: already the folder of {held}, whose tokenizer, labels and {SETTINGS} "
                f"{name} would replace; write it into a folder of its own"
            )
        return
    try:
        if (folder / TOKENIZER).exists():
            same = (folder / TOKENIZER).read_text(encoding="utf-8") == tokenizer
            _refuse_unless(same, folder / TOKENIZER, "tokenizer")
        if (folder / LABELS).exists():
            same = read_labels(folder / LABELS) == labels
            _refuse_unless(same, folder / LABELS, "list of labels")
    except UnicodeDecodeError:
        _refuse_unless(False, folder, "file that is no text")


def _refuse_unless(same: bool, path: pathlib.Path, what: str) -> None:
    if not same:
        raise ModelFolderError(
            f"{path}: another {what}, which the model's would replace; write the model into a "
            "folder of its own"
        )


def read_labels(path: PathLike) -> list[str]:
    """Reads one label a line from a file that people may have written.

    Returns:
        The labels as they stand; the last line needs no line break.

    Raises:
        FileError: The file cannot be read, or is not UTF-8.
        DataError: A line is empty, or a label is there twice.
    """
    try:
        text = files.read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.FileError(f"{path}: not UTF-8 ({error}); save it as UTF-8") from error
    text = text.replace("\r\n", "\n")
    labels = text.removesuffix("\n").split("\n") if text else []
    for number, label in enumerate(labels, 1):
        if not label.strip():
            raise errors.DataError(f"{path}:{number}: an empty line; write one label a line")
        if label in labels[: number - 1]:
            raise errors.DataError(f"{path}:{number}: the label {label!r} is there twice")
    return labels


def load(path: PathLike) -> ModelFolder:
    """Reads a model folder; as `ModelFolder.load`."""
    return ModelFolder.load(path)


def _demand(folder: pathlib.Path, *names: str) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise ModelFolderError(
                f"{folder}: no model folder, {name} is missing; "
                "`python converters/convert_tflite.py` makes one"
            )


def pad(ids: list[int], length: int) -> np.ndarray:
    """Returns ids as int32 (1, length), padded with [PAD]."""
    result = np.full((1, length), special_tokens.PAD, np.int32)
    result[0, : len(ids)] = ids
    return result
