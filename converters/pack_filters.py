r"""Packs the FULLY_CONNECTED filters of a full-int8 .tflite to 4 bits, for TFLM.

  python -m converters.pack_filters model.tflite packed.tflite

Where that pays and what it costs: docs/portable_graph.md. Firmware without TFLM and the fused
operators have weights of 4 bits of their own (`embbert_tf.qat --weight_bits=4`).
"""

from absl import flags

from converters.portable import int4_filters
from embbert_tf import cli


def define_flags(values: flags.FlagValues) -> None:
    """Defines none: the command takes two files."""


@cli.positional("a full-int8 .tflite", "the .tflite to write")
def main(values: flags.FlagValues, source: str, target: str) -> None:
    """Packs one file."""
    print(int4_filters.pack_file(source, target))


if __name__ == "__main__":
    cli.run(define_flags, main)
