r"""Makes the C that the firmware is built from out of a model folder.

  python -m converters.generate_firmware --model_folder=FOLDER --output_folder=DIR

writes to DIR, each file only when its content changes:
  model_image.bin  the model image (converters/model_image.py), for a flash programmer;
  model_image.c    the same as a constant array, for the linker;
  model_shape.h    the sizes that the application's static memory is made from.
tflm_app/Makefile calls this; the model folder is model.tflite, tokenizer.json, labels.txt and
model.json, of which this reads the keys task, pair, sha256 and confidence_threshold.
--image=FILE takes an image made before instead of a model folder.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import sys

from absl import app, flags

from converters import int8_model, kernel_params, model_image, tokenizer_tables

GENERATOR = "converters/generate_firmware.py"
VERSION = 1


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
    tflite = _read(folder / "model.tflite")
    tokenizer = _read(folder / "tokenizer.json")
    # As they were written: one a line, and a label may hold any character but a line end.
    labels = [line for line in _read(folder / "labels.txt").decode("utf-8").split("\n") if line]
    try:
        settings = json.loads(_read(folder / "model.json"))
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
            dataclasses.replace(int8_model.extract(tflite), pair=pair),
            tokenizer_tables.build_tables(str(folder / "tokenizer.json")),
            labels or ["score"] if regression else labels,
            model_image.ImageSource.of(name or _display_name(folder), tflite, tokenizer),
            regression=regression,
            threshold=threshold,
        )
    except int8_model.NotEmbBertError as error:
        raise FirmwareError(
            f"{folder / 'model.tflite'}: {error}; convert it with converters/convert_tflite.py"
        ) from error
    except (
        model_image.ModelImageError,
        kernel_params.KernelParamsError,
        tokenizer_tables.TokenizerTableError,
    ) as error:
        raise FirmwareError(f"{folder}: {error}") from error


def _display_name(folder: pathlib.Path) -> str:
    """The last two parts of the path: build/snips/model is "snips/model"."""
    return "/".join(folder.resolve().parts[-2:])


def _source_strings(image: bytes) -> list[str]:
    """The image's maker, the model's name, the hashes of model.tflite and tokenizer.json."""
    source = model_image.section(image, model_image.Kind.SOURCE)
    return source.decode().split("\0")[:-1]


def c_source(image: bytes) -> str:
    """The image as a C constant array, 16-byte aligned, in section .model_image."""
    strings = _source_strings(image)
    lines = [
        f"// Made by {GENERATOR} {VERSION} ({strings[0]}); do not edit.",
        f"// Model: {strings[1].encode('ascii', 'replace').decode()}",
        f"// SHA-256 of model.tflite: {strings[2]}",
        f"// SHA-256 of tokenizer.json: {strings[3]}",
        f"// SHA-256 of the image: {hashlib.sha256(image).hexdigest()}",
        "// clang-format off",
        '#include "model_image_data.h"',
        "",
        f"const uint32_t model_image_size = {len(image)}u;",
        f'__attribute__((aligned(16), section(".model_image"))) const uint32_t '
        f"model_image_data[{len(image) // 4}] = {{",
    ]
    for start in range(0, len(image), 32):
        words = [
            f"0x{int.from_bytes(image[at : at + 4], 'little'):08x},"
            for at in range(start, min(start + 32, len(image)), 4)
        ]
        lines.append("    " + " ".join(words))
    return "\n".join([*lines, "};", ""])


def shape_header(image: bytes) -> str:
    """The model's sizes as C macros, for the application's static memory."""
    shape = model_image.shape(image)
    return "\n".join(
        [
            f"// Made by {GENERATOR} {VERSION} for model {_source_strings(image)[2]}; do not edit.",
            "#ifndef EMBBERT_MODEL_SHAPE_H_",
            "#define EMBBERT_MODEL_SHAPE_H_",
            f"#define MODEL_BLOCKS {len(shape.blocks)}",
            f"#define MODEL_LABELS {shape.labels}",
            f"#define MODEL_MAX_LENGTH {shape.max_length}",
            f"#define MODEL_HIDDEN {shape.hidden}",
            "// X(expansion, rows of conv) for every layer.",
            "#define MODEL_BLOCK_SHAPES(X) " + " ".join(f"X({e}, {k})" for e, k in shape.blocks),
            "#endif  // EMBBERT_MODEL_SHAPE_H_",
            "",
        ]
    )


def write_if_changed(path: pathlib.Path, content: bytes) -> None:
    """Replaces a file whole, and leaves it alone (its time too) when the content is the same."""
    if path.exists() and path.read_bytes() == content:
        return
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FirmwareError(
            f"{path}: {error.strerror}; a model folder holds model.tflite, tokenizer.json, "
            "labels.txt and model.json"
        ) from error


def define_flags(values=flags.FLAGS):
    """Defines the flags. Not on import: other commands have flags of the same names."""
    flags.DEFINE_string(
        "model_folder", None, "Model folder: what convert_tflite.py wrote.", flag_values=values
    )
    flags.DEFINE_string(
        "image", None, "Model image to use instead of a model folder.", flag_values=values
    )
    flags.DEFINE_string(
        "output_folder",
        None,
        "Folder for the generated files; made when missing.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "firmware_name",
        None,
        "Name that the firmware shows; default: the folder's, with its parent's.",
        flag_values=values,
    )
    flags.mark_flag_as_required("output_folder", flag_values=values)


def main(argv, values=flags.FLAGS):
    """Command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    if (values.model_folder is None) == (values.image is None):
        raise app.UsageError("give either --model_folder or --image")
    output = pathlib.Path(values.output_folder)
    try:
        if values.image is not None:
            image = _read(pathlib.Path(values.image))
        else:
            image = image_of_folder(pathlib.Path(values.model_folder), values.firmware_name)
        output.mkdir(parents=True, exist_ok=True)
        write_if_changed(output / "model_image.bin", image)
        write_if_changed(output / "model_image.c", c_source(image).encode())
        write_if_changed(output / "model_shape.h", shape_header(image).encode())
    except model_image.ModelImageError as error:
        sys.exit(f"generate_firmware: {values.image}: {error}")
    except (FirmwareError, OSError) as error:
        sys.exit(f"generate_firmware: {error}")


if __name__ == "__main__":
    define_flags()
    app.run(main)
