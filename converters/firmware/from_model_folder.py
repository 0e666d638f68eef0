"""From a model folder to its model image."""

import dataclasses
import hashlib
import json
import pathlib

from converters.firmware import model_image, tokenizer_tables, unicode_probe
from converters.kernels import params, recognize


class FirmwareError(ValueError):
    """A model folder that no firmware can be made of; the message says what and how to mend it."""


def image_of_folder(folder: pathlib.Path, name: str | None = None) -> bytes:
    """Makes the model image of a model folder.

    Args:
      folder: The model folder.
      name: What the firmware calls the model; None takes the folder's name and its parent's.

    Returns:
      The image.

    Raises:
      FirmwareError: a file is missing or does not fit the others.
    """
    tflite = read(folder / "model.tflite")
    tokenizer = read(folder / "tokenizer.json")
    # As they were written: one a line, and a label may hold any character but a line end.
    labels = [line for line in read(folder / "labels.txt").decode("utf-8").split("\n") if line]
    try:
        settings = json.loads(read(folder / "model.json"))
        regression = settings["task"] == "regression"
        pair, sha256 = bool(settings["pair"]), settings["sha256"]
        threshold = float(settings.get("confidence_threshold", 0))
    except (ValueError, TypeError, KeyError) as error:
        raise FirmwareError(
            f"{folder / 'model.json'}: not what convert_tflite.py writes ({error!r}); convert again"
        ) from error
    if hashlib.sha256(tflite).hexdigest() != sha256:
        raise FirmwareError(
            f"{folder / 'model.tflite'}: not the file that model.json describes (SHA-256 differs); "
            "convert the run again"
        )
    try:
        return model_image.build(
            dataclasses.replace(recognize.extract(tflite), pair=pair),
            tokenizer_tables.build_tables(str(folder / "tokenizer.json")),
            labels or ["score"] if regression else labels,
            model_image.ImageSource.of(name or _display_name(folder), tflite, tokenizer),
            regression=regression,
            threshold=threshold,
        )
    except recognize.NotEmbBertError as error:
        raise FirmwareError(
            f"{folder / 'model.tflite'}: {error}; convert it with converters/convert_tflite.py"
        ) from error
    except (
        model_image.ModelImageError,
        params.KernelParamsError,
        unicode_probe.TokenizerTableError,
    ) as error:
        raise FirmwareError(f"{folder}: {error}") from error


def _display_name(folder: pathlib.Path) -> str:
    """The last two parts of the path: build/snips/model is "snips/model"."""
    return "/".join(folder.resolve().parts[-2:])


def read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FirmwareError(
            f"{path}: {error.strerror}; a model folder holds model.tflite, tokenizer.json, "
            "labels.txt and model.json"
        ) from error
