"""Says what a `.tflite`, of whatever origin, takes to run on TensorFlow Lite for Microcontrollers.

Prints
* the operators it needs, as `MicroMutableOpResolver` code to paste, and those that TFLM lacks;
* the arena that the real TFLM interpreter records on this machine (head: activations, tail: what it
  keeps for good), and the smallest arena with which the model still gives its answers;
* which tensor lies where in the arena over time, the peak and the operator that makes it; the same
  as a PNG (--picture).

A file that TFLM cannot run gets the reason in place of the measurements. Everything that touches
the file happens in child processes with limits on time and memory: a damaged file ends in one line.

Example:
  python -m converters.tflm_report model.tflite --picture=arena.png
"""

import pathlib

from absl import flags

from converters.report import tflm_needs
from embbert_tf import cli


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "picture",
        None,
        "The PNG to write; default NAME.arena.png in the current folder; '' for none.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "timeout",
        300.0,
        "Seconds after which the analysis is given up.",
        lower_bound=0.001,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "memory_mb",
        8192,
        "Memory limit of the analysis in MiB.",
        lower_bound=256,
        flag_values=values,
    )


@cli.positional("a .tflite file")
def main(values: flags.FlagValues, path: str) -> None:
    """Prints the report."""
    picture = values.picture
    if picture is None:
        picture = f"{pathlib.Path(path).stem}.arena.png"
    try:
        text = tflm_needs.report_under_limits(path, picture, values.timeout, values.memory_mb)
    except tflm_needs.ReportError as error:
        print(error.text, end="")
        raise
    print(text, end="")


if __name__ == "__main__":
    cli.run(define_flags, main)
