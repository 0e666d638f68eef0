r"""Writes one page of HTML that shows a model and runs it.

  python -m converters.report_page --model=build/snips/model --data=test.csv --output=report.html

The page needs no other file and no network: accuracy, sizes, confusions, wrong answers, the
learning curve, the error of each tensor, arena and flash as pictures, and a box to type into that
runs the firmware's own C code. What cannot be given, for want of data, of a run or of a tool, is
left out, and the page says how to get it. docs/report_page.md explains each part.
"""

from absl import flags

from converters.page.options import PageOptions
from embbert_tf import cli


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    text = {"flag_values": values}
    flags.DEFINE_string("model", None, "Model folder, or the .tflite in it.", required=True, **text)
    flags.DEFINE_string("output", "report.html", "The page.", **text)
    cli.define_options(PageOptions, values)


def main(values: flags.FlagValues) -> None:
    """Writes the page."""
    from converters.page import page

    options = cli.options_of(PageOptions, values)
    print(page.write_page(values.model, values.output, options).summary())


if __name__ == "__main__":
    cli.run(define_flags, main)
