r"""Makes the C that the firmware is built from out of a model folder.

  python -m converters.generate_firmware --model_folder=FOLDER --output_folder=DIR

writes to DIR, each file only when its content changes:
  model_image.bin  the model image (converters/firmware/model_image.py), for a flash programmer;
  model_image.c    the same as a constant array, for the linker;
  model_shape.h    the sizes that the application's static memory is made from.
tflm_app/Makefile calls this; the model folder is model.tflite, tokenizer.json, labels.txt and
model.json, of which this reads the keys task, pair, sha256 and confidence_threshold.
--image=FILE takes an image made before instead of a model folder.
"""

import pathlib
import sys

from absl import app, flags

from converters.firmware import c_files, from_model_folder, model_image

GENERATOR = "converters/generate_firmware.py"
VERSION = 1


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
            image = from_model_folder.read(pathlib.Path(values.image))
        else:
            image = from_model_folder.image_of_folder(
                pathlib.Path(values.model_folder), values.firmware_name
            )
        output.mkdir(parents=True, exist_ok=True)
        c_files.write_if_changed(output / "model_image.bin", image)
        c_files.write_if_changed(output / "model_image.c", c_files.c_source(image).encode())
        c_files.write_if_changed(output / "model_shape.h", c_files.shape_header(image).encode())
    except model_image.ModelImageError as error:
        sys.exit(f"generate_firmware: {values.image}: {error}")
    except (from_model_folder.FirmwareError, OSError) as error:
        sys.exit(f"generate_firmware: {error}")


if __name__ == "__main__":
    define_flags()
    app.run(main)
