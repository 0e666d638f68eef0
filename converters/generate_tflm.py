r"""Makes the C and C++ that the TFLM app is built from out of a model folder.

  python -m converters.generate_tflm --model_folder=build/snips/model --graph=fused \
    --output_folder=DIR

writes to DIR, each file only when its content changes:
  model_image.bin, model_image.c  the model image of `converters.generate_firmware`, with the
    `.tflite` in place of the kernels' weights;
  model_shape.h     the sizes that the application's static memory is made from;
  model_resolver.h  the operators that the graph uses, int8 variants where TFLM offers them;
  graph.tflite      the graph itself.
--graph is "portable" (the model's `.tflite` as it is), "fused" (`converters.fuse` of it) or another
`.tflite` with the same inputs and outputs, such as a plain conversion to compare with.

--trial_program=ELF --machine=BOARD, which tflm_app/tflm/tflm.mk says, writes arena_size.h in place
of these: the smallest arena of that program, found in the emulator
(`converters/firmware/size_arena.py`).
"""

from absl import app, flags

from converters.firmware import size_arena, tflm_files
from embbert_tf import cli


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    strings = {
        "model_folder": (None, "Model folder: what convert_tflite.py wrote."),
        "graph": ("portable", "portable, fused, or the path of a .tflite."),
        "trial_program": (None, "Program that tflm.mk built to size the arena with."),
        "machine": (None, "QEMU's name of the board that it was built for."),
        "output_folder": (None, "Folder for the generated files; made when missing."),
    }
    for name, (default, meaning) in strings.items():
        flags.DEFINE_string(name, default, meaning, flag_values=values)
    flags.DEFINE_integer(
        "large",
        448 * 1024,
        "Bytes of an arena that surely suffices the trial program.",
        lower_bound=1,
        flag_values=values,
    )
    flags.mark_flag_as_required("output_folder", flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Writes the files."""
    if bool(values.model_folder) == bool(values.trial_program):
        raise app.UsageError("say either --model_folder or --trial_program")
    if values.model_folder:
        tflm_files.generate(values.model_folder, values.graph, values.output_folder)
        return
    if not values.machine:
        raise app.UsageError("--trial_program needs --machine")
    program, machine = values.trial_program, values.machine
    print(size_arena.write_header(program, machine, values.output_folder, values.large))


if __name__ == "__main__":
    cli.run(define_flags, main)
