"""Says what a `.tflite`, of whatever origin, takes to run on TensorFlow Lite for Microcontrollers.

Prints
* the operators it holds, and whether TFLM runs it: tried on this machine, and its answers compared
  with a reference interpreter's;
* the arena that it takes on each Cortex-M, with CMSIS-NN and with reference kernels, predicted from
  the file: `--target`, `--kernels`, and `--max_arena` to fail above a limit;
* which tensor lies where in the arena over time, the peak and the operator that makes it; the same
  as a PNG (--picture) and in a page (--html);
* what the application needs, with a `main.cc` to compile.

Exit status: 0, 1 if the file cannot be read, 2 if TFLM does not run it or answers wrongly, 3 if the
arena exceeds --max_arena. Everything that touches the file happens in child processes with limits
on time and memory: a damaged file ends in one line.

Example:
  tflm-report model.tflite --target=cortex-m4 --kernels=cmsis_nn --max_arena=64k
"""

import sys

from absl import flags

from converters.report import tflm_needs
from embbert_tf import cli


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    cli.define_options(tflm_needs.ReportOptions, values)


@cli.positional("a .tflite file")
def main(values: flags.FlagValues, path: str) -> None:
    """Prints the report."""
    options = cli.options_of(tflm_needs.ReportOptions, values)
    try:
        report = tflm_needs.report_under_limits(path, options)
    except tflm_needs.ReportError as error:
        print(error.text, end="")
        raise
    print(report.text, end="")
    if report.status:
        print(f"tflm_report: {report.message}", file=sys.stderr)
        sys.exit(report.status)


def run() -> None:
    """The console script `tflm-report`."""
    cli.run(define_flags, main)


if __name__ == "__main__":
    cli.run(define_flags, main)
