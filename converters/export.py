r"""Exports a model and the library that runs it as a folder that a product takes home.

  python -m converters.export --model=zoo/snips --for=c --name=snips --output=third_party/snips

--for says the ecosystem. The folder holds the library's sources, the model as <name>_model.c and
.h, an example, README.md and LICENSE; docs/export.md explains each. It is written whole or not at
all; an earlier export is replaced unless somebody has changed it.
"""

from absl import flags

from converters.exports import exporter
from converters.exports.options import ECOSYSTEMS, ExportOptions
from embbert_tf import cli


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "model", None, "Model folder: what convert_tflite.py wrote.", flag_values=values
    )
    flags.DEFINE_string("output", None, "Folder to write.", flag_values=values)
    flags.DEFINE_enum(
        "for", ECOSYSTEMS[0], ECOSYSTEMS, "What the folder is for.", flag_values=values
    )
    cli.define_options(ExportOptions, values, without=["ecosystem"])
    flags.mark_flags_as_required(["model", "output"], flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Writes the folder."""
    options = cli.options_of(ExportOptions, values, ecosystem=values["for"].value)
    print(exporter.export_firmware(values.model, values.output, options).summary())


if __name__ == "__main__":
    cli.run(define_flags, main)
