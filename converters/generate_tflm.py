r"""Makes the C and C++ that the TFLM app is built from out of a model folder.

  python -m converters.generate_tflm --model_folder=build/snips/model --graph=fused \
    --output_folder=DIR

writes to DIR, each file only when its content changes:
  model_image.bin, model_image.c  the model image of `converters.generate_firmware`, with the
    `.tflite` in place of the kernels' weights;
  model_shape.h     the sizes that the application's static memory is made from;
  model_resolver.h  the operators that the graph uses, int8 variants where TFLM offers them;
  graph.tflite      the graph itself.
--graph is "portable" (model.tflite as it is), "fused" (`converters.fuse` of it) or another
`.tflite` with the same inputs and outputs, such as a plain conversion to compare with.
"""

import pathlib
import sys

from absl import app, flags

from converters.firmware import from_model_folder, tflm_files

GENERATOR = "converters/generate_tflm.py"
VERSION = 1


def define_flags(values=flags.FLAGS):
    """Defines the flags. Not on import: other commands have flags of the same names."""
    flags.DEFINE_string(
        "model_folder", None, "Model folder: what convert_tflite.py wrote.", flag_values=values
    )
    flags.DEFINE_string(
        "graph", "portable", "portable, fused, or the path of a .tflite.", flag_values=values
    )
    flags.DEFINE_string(
        "output_folder",
        None,
        "Folder for the generated files; made when missing.",
        flag_values=values,
    )
    flags.mark_flags_as_required(["model_folder", "output_folder"], flag_values=values)


def main(argv, values=flags.FLAGS):
    """Command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        tflm_files.generate(
            pathlib.Path(values.model_folder), values.graph, pathlib.Path(values.output_folder)
        )
    except (tflm_files.TflmError, from_model_folder.FirmwareError, OSError) as error:
        sys.exit(f"generate_tflm: {error}")


if __name__ == "__main__":
    define_flags()
    app.run(main)
