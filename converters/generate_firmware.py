r"""Makes the C that the firmware is built from out of a model folder.

  python -m converters.generate_firmware --model_folder=FOLDER --output_folder=DIR

writes to DIR, each file only when its content changes:
  model_image.bin  the model image (converters/firmware/model_image.py), for a flash programmer;
  model_image.c    the same as a constant array, for the linker;
  model_shape.h    the sizes that the application's static memory is made from.
tflm_app/Makefile calls this. In place of a model folder it takes
  --image=FILE      an image made before;
  --tokenizer=FILE  a tokenizer.json alone: writes tokenizer_tables.bin, the tables of the C
                    tokenizer, and prints their sizes;
  --kernel_tables   nothing: writes embbert_tables.c, the constant tables of the kernels.
"""

from absl import app, flags

from converters.firmware import c_files, from_model_folder, model_image, tokenizer_tables
from embbert_tf import cli

_SOURCES = ("model_folder", "image", "tokenizer", "kernel_tables")


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    strings = {
        "model_folder": "Model folder: what convert_tflite.py wrote.",
        "image": "Model image to use instead of a model folder.",
        "tokenizer": "tokenizer.json to make the C tokenizer's tables of.",
        "output_folder": "Folder for the generated files; made when missing.",
        "firmware_name": "Name that the firmware shows; default: the folder's, with its parent's.",
    }
    for name, meaning in strings.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_bool(
        "kernel_tables", False, "Write the kernels' constant tables.", flag_values=values
    )
    flags.mark_flag_as_required("output_folder", flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Writes the files."""
    if sum(bool(values[name].value) for name in _SOURCES) != 1:
        raise app.UsageError("say one of --model_folder, --image, --tokenizer, --kernel_tables")
    output = values.output_folder
    if values.model_folder:
        from_model_folder.write_firmware(values.model_folder, output, values.firmware_name)
    elif values.image:
        c_files.write_image(model_image.read(values.image), output)
    elif values.tokenizer:
        tables = tokenizer_tables.build_tables(values.tokenizer)
        c_files.write_all({"tokenizer_tables.bin": tables}, output)
        print(tokenizer_tables.describe(tables))
    else:
        c_files.write_all({"embbert_tables.c": c_files.c_tables().encode()}, output)


if __name__ == "__main__":
    cli.run(define_flags, main)
