r"""Replaces the portable EmbBERT graph with three kinds of custom operator over the fused kernels.

  python -m converters.fuse portable.tflite fused.tflite

docs/tflm.md lists the operators, their inputs and their options. A graph that is not recognised is
copied as it is; the message says where recognition stopped, and the exit status is 1.
"""

from absl import flags

from converters.kernels import fused_graph
from embbert_tf import cli


def define_flags(values: flags.FlagValues) -> None:
    """Defines none: the command takes two files."""


@cli.positional("the portable .tflite", "the .tflite to write")
def main(values: flags.FlagValues, source: str, target: str) -> None:
    """Fuses one file."""
    print(fused_graph.fuse_file(source, target))


if __name__ == "__main__":
    cli.run(define_flags, main)
