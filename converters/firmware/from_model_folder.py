"""From a converted model to its model image, and to the C that firmware is built from."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from converters.firmware import c_files, model_image, tokenizer_tables, unicode_probe
from converters.kernels import fixed_point, recognize
from converters.tflite import model_folder
from embbert_tf import errors
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.data import files


class FirmwareError(errors.EmbBertError):
    """A model that no firmware can be made of; the message says what and how to mend it."""


def write_firmware(
    model: model_folder.ModelFolder | files.PathLike,
    folder: files.PathLike,
    name: str | None = None,
) -> None:
    """Writes the C that the firmware is built from.

    `model_image.bin` is the model image for a flash programmer, `model_image.c` the same as a
    constant array, `model_shape.h` the sizes that the application's static memory is made from.
    Each file changes only when its content does.

    Example:
    ```python
    import converters

    converters.write_firmware("build/model", "build/firmware")
    ```

    Args:
        model: What `converters.convert` returned, or a model folder.
        folder: Where to write; made when missing.
        name: What the firmware calls the model; by default the folder's name, with its parent's.

    Raises:
        ModelFolderError: The model folder is incomplete or inconsistent.
        FirmwareError: The firmware cannot run the model.
        FileError: A file cannot be written.
    """
    c_files.write_image(image_of(model, name), folder)


def image_of(model: model_folder.ModelFolder | files.PathLike, name: str | None = None) -> bytes:
    """Makes the model image of a model; the arguments and errors are those of `write_firmware`."""
    if not isinstance(model, model_folder.ModelFolder):
        model = model_folder.load(pathlib.Path(model))
    config = model.settings.get("config", {})
    if "kind" in config:
        what = BaselineConfig.from_dict(config).what
        raise FirmwareError(
            f"{_where(model)}: {what}, which TFLM alone runs: `make RUNTIME=tflm` (docs/tflm.md)"
        )
    with told(model):
        return model_image.build(
            dataclasses.replace(recognize.extract(model.tflite), pair=model.pair),
            **_about(model, name),
        )


def common_sections(
    model: model_folder.ModelFolder, outputs: model_image.Outputs, name: str | None = None
) -> list[model_image.Section]:
    """Returns all of a model's image but what computes it.

    Args:
        model: The model.
        outputs: What its graph puts out.
        name: As for `image_of`.

    Raises:
        FirmwareError: The firmware cannot hold the model.
    """
    with told(model):
        return model_image.common_sections(outputs, **_about(model, name))


def _about(model: model_folder.ModelFolder, name: str | None) -> dict[str, Any]:
    """Returns the arguments of `model_image.build` that follow the model."""
    where = model.path / model_folder.TOKENIZER if model.path else model_folder.TOKENIZER
    tokenizer = (model.tokenizer_json or model.tokenizer.to_str(pretty=True)).encode()
    try:
        threshold = float(model.settings.get("confidence_threshold", 0))
    except (TypeError, ValueError) as error:
        raise FirmwareError(
            f"{_where(model)}: confidence_threshold in model.json is no number; convert again"
        ) from error
    return {
        "tokenizer_blob": tokenizer_tables.tables_of(tokenizer, str(where)),
        "labels": model.labels or ["score"] if model.task == "regression" else model.labels,
        "source": model_image.ImageSource.of(name or _display_name(model), model.tflite, tokenizer),
        "task": model.task,
        "threshold": threshold,
    }


@contextlib.contextmanager
def told(model: model_folder.ModelFolder) -> Iterator[None]:
    """Makes a FirmwareError, which says the model, of what goes wrong with it."""
    try:
        yield
    except recognize.NotEmbBertError as error:
        raise FirmwareError(
            f"{_where(model)}: {error}; convert it with converters/convert_tflite.py"
        ) from error
    except (model_image.ModelImageError, fixed_point.KernelParamsError) as error:
        raise FirmwareError(f"{_where(model)}: {error}") from error
    except unicode_probe.TokenizerTableError as error:
        raise FirmwareError(str(error)) from error


def _where(model: model_folder.ModelFolder) -> str:
    return "the model" if model.path is None else str(model.tflite_path)


def _display_name(model: model_folder.ModelFolder) -> str:
    """The last two parts of the path: build/snips/model is "snips/model"."""
    return "model" if model.path is None else "/".join(model.path.resolve().parts[-2:])
