r"""Replaces the portable EmbBERT graph with three kinds of custom operator over the fused kernels.

  python -m converters.fuse portable.tflite fused.tflite

| operator | inputs | outputs |
| --- | --- | --- |
| EMBBERT_EMBED | ids int32 (1, S); segments int32 (1, S) or omitted; token int8 (V, R); position int8 (S, R); weight int8 (D, 2R); bias int32 (2, D) | x0 int8 (S, D); count int32 (1) |
| EMBBERT_BLOCK, one a layer | x int8 (S, D), which it overwrites; count; wq (D, D); bq (D); wv (D, D); conv (K, E*D); conv_bias (E*D); wz (D, E*D); bz (D) | x int8 (S, D), in the last layer (1, D) |
| EMBBERT_HEAD | x int8 (1, D); weight int8 (L, D); bias int32 (L) | logits int8 (1, L) |

`count` is the number of real tokens: work follows it, and rows of x from there on are not written.
Custom options are the blobs of `converters.kernels.params`: magic with version, length in 32-bit
words, scalars, multipliers, and in a block the SiLU table. Weights stay tensors. Scales and weights
are read from the portable file, which thereby stays the one source of truth.

A graph that is not recognised is copied as it is; the message says where recognition stopped, and
the exit status is 1.
"""  # noqa: E501

import os
import sys

from absl import app

from converters.kernels import fused_graph, recognize
from converters.kernels import params as params_lib
from converters.tflite import graph as graph_lib
from converters.tflite import reader


def main(argv: list[str]) -> int:
    """Entry point; see the module's docstring."""
    if len(argv) != 3:
        raise app.UsageError(
            "say two files: python -m converters.fuse portable.tflite fused.tflite"
        )
    status = 0
    try:
        with open(argv[1], "rb") as file:
            data = file.read()
        try:
            result = fused_graph.fuse(data)
        except (recognize.NotEmbBertError, params_lib.KernelParamsError) as error:
            print(f"fuse: {argv[1]}: left as it is: {error}", file=sys.stderr)
            result, status = data, 1
        temporary = argv[2] + ".tmp"
        with open(temporary, "wb") as file:
            file.write(result)
        os.replace(temporary, argv[2])
    except (OSError, graph_lib.FlatbufferError) as error:
        print(f"fuse: {argv[1]}: {error}", file=sys.stderr)
        return 1
    if status == 0:
        print(
            f"{argv[2]}: {len(reader.read(result).ops)} operators in {len(result)} bytes, from "
            f"{len(reader.read(data).ops)} in {len(data)}"
        )
    return status


if __name__ == "__main__":
    app.run(main)
