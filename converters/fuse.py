r"""Replaces the portable EmbBERT graph with three kinds of custom operator over the fused kernels.

  python -m converters.fuse portable.tflite fused.tflite

| operator | inputs | outputs |
| --- | --- | --- |
| EMBBERT_EMBED | ids int32 (1, S); segments int32 (1, S) or omitted; token int8 (V, R); position int8 (S, R); weight int8 (D, 2R); bias int32 (2, D) | x0 int8 (S, D); count int32 (1) |
| EMBBERT_BLOCK, one a layer | x int8 (S, D), which it overwrites; count; wq (D, D); bq (D); wv (D, D); conv (K, E*D); conv_bias (E*D); wz (D, E*D); bz (D) | x int8 (S, D), in the last layer (1, D) |
| EMBBERT_HEAD | x int8 (1, D); weight int8 (L, D); bias int32 (L) | logits int8 (1, L) |

`count` is the number of real tokens: work follows it, and rows of x from there on are not written.
Custom options are the blobs of `converters.kernel_params`: magic with version, length in 32-bit
words, scalars, multipliers, and in a block the SiLU table. Weights stay tensors. Scales and weights
are read from the portable file, which thereby stays the one source of truth.

A graph that is not recognised is copied as it is; the message says where recognition stopped, and
the exit status is 1.
"""  # noqa: E501

import os
import struct
import sys

import numpy as np
from absl import app

from converters import flatbuffer, int8_model, kernel_params
from converters.flatbuffer import Graph, Op, Tensor

EMBED = "EMBBERT_EMBED"
BLOCK = "EMBBERT_BLOCK"
HEAD = "EMBBERT_HEAD"
OPERATORS = (EMBED, BLOCK, HEAD)

# Input indices, the same as in tflm_app/tflm/embbert_ops.cc.
EMBED_INPUTS = ("ids", "segments", "token", "position", "weight", "bias")
BLOCK_INPUTS = ("x", "count", "wq", "bq", "wv", "conv", "conv_bias", "wz", "bz")
HEAD_INPUTS = ("x", "weight", "bias")


class FusedGraphError(ValueError):
    """A file is no fused graph of this version; the message says what is wrong with it."""


def fuse(data: bytes) -> bytes:
    """Makes the fused `.tflite` of a portable one.

    Args:
      data: The file that `converters.convert_tflite` wrote.

    Returns:
      A `.tflite` with the same inputs and outputs, whose operators are those in the module's
      docstring.

    Raises:
      int8_model.NotEmbBertError: The graph is another one; the message says where recognition
        stopped.
      kernel_params.KernelParamsError: The kernels cannot represent the model.
      flatbuffer.FlatbufferError: `data` is no readable `.tflite`.
    """
    portable = flatbuffer.read(data)
    model = int8_model.extract(data)
    params = kernel_params.model_params(model)

    inputs = [_like(tensor) for tensor in portable.inputs]
    ids, segments = inputs[0], inputs[1] if len(inputs) > 1 else None
    first = model.blocks[0]
    x = Tensor("x0", (model.max_length, model.d), np.int8, first.x_scale, first.x_zero)
    count = Tensor("count", (1,), np.int32)
    ops = [_op(EMBED, [ids, segments], params.embed, [x, count])]
    for layer, (block, block_params) in enumerate(zip(model.blocks, params.blocks, strict=True)):
        rows = 1 if layer == len(model.blocks) - 1 else model.max_length
        out = Tensor(f"x{layer + 1}", (rows, model.d), np.int8, block.out_scale, block.out_zero)
        ops.append(_op(BLOCK, [x, count], block_params, [out]))
        x = out
    logits = _like(portable.outputs[0])
    ops.append(_op(HEAD, [x], params.head, [logits]))
    return flatbuffer.write(Graph(inputs, [logits], ops))


def _like(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.shape, tensor.dtype, tensor.scale, tensor.zero_point)


def _op(code: str, activations: list[Tensor | None], params, outputs: list[Tensor]) -> Op:
    weights = [
        Tensor(name, value.shape, value.dtype, data=value)
        for name, value in params.tensors().items()
    ]
    return Op(
        "CUSTOM",
        activations + weights,
        outputs,
        custom_code=code,
        custom_options=params.options(),
    )


def is_fused(graph: Graph) -> bool:
    """Whether the graph has operators of this pass."""
    return any(op.kind == "CUSTOM" and op.custom_code in OPERATORS for op in graph.ops)


def read_params(data: bytes) -> kernel_params.ModelParams:
    """Reads the kernels' integers back from a fused `.tflite`, as the device does.

    Args:
      data: What `fuse` returned.

    Returns:
      Equal to `kernel_params.model_params` of the portable file's model.

    Raises:
      FusedGraphError: The file is no fused graph, or one of another version.
      flatbuffer.FlatbufferError: `data` is no readable `.tflite`.
    """
    ops = flatbuffer.read(data).ops
    codes = [op.custom_code for op in ops]
    if len(ops) < 3 or codes != [EMBED, *[BLOCK] * (len(ops) - 2), HEAD]:
        raise FusedGraphError(f"operators {codes}, not {EMBED}, {BLOCK}..., {HEAD}")
    blocks = []
    for op in ops[1:-1]:
        scalars, rest = _options(
            op, kernel_params.BLOCK_MAGIC, _scalar_names(kernel_params.BlockParams)
        )
        inner = scalars["expansion"] * scalars["hidden"]
        if len(rest) != 4 * inner + 256:
            raise FusedGraphError(f"{BLOCK}: options of {len(op.custom_options)} bytes")
        blocks.append(
            kernel_params.BlockParams(
                **scalars,
                conv_multipliers=np.frombuffer(rest, "<i4", inner),
                silu=np.frombuffer(rest, np.int8, 256, 4 * inner),
                **_weights(op, BLOCK_INPUTS, 2),
            )
        )
    embed, rest = _options(
        ops[0], kernel_params.EMBED_MAGIC, _scalar_names(kernel_params.EmbedParams)
    )
    head, head_rest = _options(
        ops[-1], kernel_params.HEAD_MAGIC, _scalar_names(kernel_params.HeadParams)
    )
    return kernel_params.ModelParams(
        kernel_params.EmbedParams(
            **embed, multipliers=np.frombuffer(rest, "<i4"), **_weights(ops[0], EMBED_INPUTS, 2)
        ),
        tuple(blocks),
        kernel_params.HeadParams(
            **head, multipliers=np.frombuffer(head_rest, "<i4"), **_weights(ops[-1], HEAD_INPUTS, 1)
        ),
    )


def _scalar_names(params) -> list[str]:
    """Fields before the first array, which is where the blob's scalars end."""
    return [name for name, kind in params.__annotations__.items() if kind is int]


def _options(op: Op, magic: int, names: list[str]) -> tuple[dict[str, int], bytes]:
    blob = op.custom_options
    end = 8 + 4 * len(names)
    if len(blob) < end:
        raise FusedGraphError(f"{op.custom_code}: options of {len(blob)} bytes")
    found, words, *values = struct.unpack_from(f"<{2 + len(names)}i", blob)
    if found != magic or 4 * words != len(blob):
        raise FusedGraphError(
            f"{op.custom_code}: options {found:#x} of {4 * words} bytes, not {magic:#x} of "
            f"{len(blob)}; fuse the portable file again"
        )
    return dict(zip(names, values, strict=True)), blob[end:]


def _weights(op: Op, names: tuple[str, ...], first: int) -> dict[str, np.ndarray]:
    if len(op.inputs) != len(names):
        raise FusedGraphError(f"{op.custom_code}: {len(op.inputs)} inputs, not {len(names)}")
    return {name: op.inputs[first + i].data for i, name in enumerate(names[first:])}


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
            result = fuse(data)
        except (int8_model.NotEmbBertError, kernel_params.KernelParamsError) as error:
            print(f"fuse: {argv[1]}: left as it is: {error}", file=sys.stderr)
            result, status = data, 1
        temporary = argv[2] + ".tmp"
        with open(temporary, "wb") as file:
            file.write(result)
        os.replace(temporary, argv[2])
    except (OSError, flatbuffer.FlatbufferError) as error:
        print(f"fuse: {argv[1]}: {error}", file=sys.stderr)
        return 1
    if status == 0:
        print(
            f"{argv[2]}: {len(flatbuffer.read(result).ops)} operators in {len(result)} bytes, from "
            f"{len(flatbuffer.read(data).ops)} in {len(data)}"
        )
    return status


if __name__ == "__main__":
    app.run(main)
