"""The fused graph: three kinds of custom operator in place of the portable graph's layers.

`EMBBERT_EMBED`, one `EMBBERT_BLOCK` a layer and `EMBBERT_HEAD`; docs/tflm.md lists their inputs,
outputs and options, `converters/kernels/params.py` makes the options. Weights stay tensors. Scales
and weights are read from the portable file, which thereby stays the one source of truth.
"""

import struct
from typing import Any

import numpy as np

from converters.kernels import fixed_point, packing, recognize
from converters.kernels import params as params_lib
from converters.tflite import reader, writer
from converters.tflite.graph import Graph, Op, Tensor
from embbert_tf import errors
from embbert_tf.data import files

_Params = params_lib.EmbedParams | params_lib.BlockParams | params_lib.HeadParams

EMBED = "EMBBERT_EMBED"
BLOCK = "EMBBERT_BLOCK"
HEAD = "EMBBERT_HEAD"
OPERATORS = (EMBED, BLOCK, HEAD)

# Input indices, the same as in tflm_app/tflm/embbert_ops.cc.
EMBED_INPUTS = ("ids", "segments", "token", "position", "weight", "bias")
BLOCK_INPUTS = ("x", "count", "wq", "bq", "wv", "conv", "conv_bias", "wz", "bz")
HEAD_INPUTS = ("x", "weight", "bias")


class FusedGraphError(errors.EmbBertError):
    """A file is no fused graph of this version; the message says what is wrong with it."""


def fuse(data: bytes) -> bytes:
    """Makes the fused `.tflite` of a portable one.

    Args:
        data: The file that `converters.convert_tflite` wrote.

    Returns:
        A `.tflite` with the same inputs and outputs, whose operators are those of `OPERATORS`.

    Raises:
        NotEmbBertError: The graph is another one; the message says where recognition stopped.
        KernelParamsError: The kernels cannot represent the model.
        FlatbufferError: `data` is no readable `.tflite`.
    """
    portable = reader.read(data)
    model = recognize.extract(data)
    params = params_lib.model_params(model)

    inputs = [_like(tensor) for tensor in portable.inputs]
    ids, segments = inputs[0], inputs[1] if len(inputs) > 1 else None
    first = model.blocks[0]
    x = Tensor("x0", (model.max_length, model.d), np.dtype(np.int8), first.x_scale, first.x_zero)
    count = Tensor("count", (1,), np.dtype(np.int32))
    ops = [_op(EMBED, [ids, segments], params.embed, [x, count])]
    for layer, (block, block_params) in enumerate(zip(model.blocks, params.blocks, strict=True)):
        rows = 1 if layer == len(model.blocks) - 1 else model.max_length
        out = Tensor(
            f"x{layer + 1}", (rows, model.d), np.dtype(np.int8), block.out_scale, block.out_zero
        )
        ops.append(_op(BLOCK, [x, count], block_params, [out]))
        x = out
    logits = _like(portable.outputs[0])
    ops.append(_op(HEAD, [x], params.head, [logits]))
    return writer.write(Graph(inputs, [logits], ops))


def fuse_file(source: files.PathLike, target: files.PathLike) -> str:
    """Writes the fused graph of a portable file; a graph that is another one is copied as it is.

    Args:
        source: The portable `.tflite`.
        target: The file to write.

    Returns:
        One line: how many operators and bytes it has, and had.

    Raises:
        NotEmbBertError, KernelParamsError: The graph cannot be fused, and `target` is a copy of it.
        FlatbufferError: `source` is no readable `.tflite`.
        FileError: A file cannot be read or written.
    """
    data = files.read_bytes(source)
    try:
        result = fuse(data)
    except (recognize.NotEmbBertError, fixed_point.KernelParamsError) as error:
        files.write_bytes(target, data)
        raise type(error)(f"{source}: left as it is: {error}") from error
    files.write_bytes(target, result)
    return (
        f"{target}: {len(reader.read(result).ops)} operators in {len(result)} bytes, from "
        f"{len(reader.read(data).ops)} in {len(data)}"
    )


def _like(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.shape, tensor.dtype, tensor.scale, tensor.zero_point)


def _op(code: str, activations: list[Tensor | None], params: _Params, outputs: list[Tensor]) -> Op:
    weights = [
        Tensor(name, value.shape, value.dtype, data=value)
        for name, value in params.tensors().items()
    ]
    return Op(
        "CUSTOM",
        [*activations, *weights],
        outputs,
        custom_code=code,
        custom_options=params.options(),
    )


def is_fused(graph: Graph) -> bool:
    """Whether the graph has operators of this pass."""
    return any(op.kind == "CUSTOM" and op.custom_code in OPERATORS for op in graph.ops)


def read_params(data: bytes) -> params_lib.ModelParams:
    """Reads the kernels' integers back from a fused `.tflite`, as the device does.

    Args:
        data: What `fuse` returned.

    Returns:
        Equal to `converters.kernels.params.model_params` of the portable file's model.

    Raises:
        FusedGraphError: The file is no fused graph, or one of another version.
        FlatbufferError: `data` is no readable `.tflite`.
    """
    ops = reader.read(data).ops
    codes = [op.custom_code for op in ops]
    if len(ops) < 3 or codes != [EMBED, *[BLOCK] * (len(ops) - 2), HEAD]:
        raise FusedGraphError(f"operators {codes}, not {EMBED}, {BLOCK}..., {HEAD}")
    return params_lib.ModelParams(
        _read_embed(ops[0]), tuple(_read_block(op) for op in ops[1:-1]), _read_head(ops[-1])
    )


def _read_embed(op: Op) -> params_lib.EmbedParams:
    names = _scalar_names(params_lib.EmbedParams)
    weights = _weights(op, EMBED_INPUTS, 2)
    if _is_coded(op, params_lib.CODED_EMBED_MAGIC):
        more = ["token_bits", "token_factor", "weight_bits"]
        scalars, rest = _options(op, params_lib.CODED_EMBED_MAGIC, names + more)
        bits, factor, weight_bits = (scalars.pop(name) for name in more)
        if bits < 8:
            codes = packing.unpack_table(weights["token"], scalars["reduced"], bits)
            weights["token"] = (codes * factor).astype(np.int8)
        if weight_bits == 4:
            weights["weight"] = packing.unpack_rows(weights["weight"], scalars["hidden"])
    else:
        scalars, rest = _options(op, params_lib.EMBED_MAGIC, names)
    return params_lib.EmbedParams(**scalars, multipliers=np.frombuffer(rest, "<i4"), **weights)


def _read_block(op: Op) -> params_lib.BlockParams:
    coded = _is_coded(op, params_lib.CODED_BLOCK_MAGIC)
    magic = params_lib.CODED_BLOCK_MAGIC if coded else params_lib.BLOCK_MAGIC
    scalars, rest = _options(op, magic, _scalar_names(params_lib.BlockParams))
    hidden = scalars["hidden"]
    inner = scalars["expansion"] * hidden
    end = 4 * inner + 256
    if len(rest) != end + (3 * hidden if coded else 0):
        raise FusedGraphError(f"{BLOCK}: options of {len(op.custom_options)} bytes")
    weights = _weights(op, BLOCK_INPUTS, 2)
    if coded:
        factors = np.frombuffer(rest, np.int8, 3 * hidden, end).reshape(3, hidden)
        for name, own in zip(("wq", "wv", "wz"), factors, strict=True):
            weights[name] = packing.Coded(packing.unpack_rows(weights[name], hidden), own).weights()
    return params_lib.BlockParams(
        **scalars,
        conv_multipliers=np.frombuffer(rest, "<i4", inner),
        silu=np.frombuffer(rest, np.int8, 256, 4 * inner),
        **weights,
    )


def _read_head(op: Op) -> params_lib.HeadParams:
    coded = _is_coded(op, params_lib.CODED_HEAD_MAGIC)
    magic = params_lib.CODED_HEAD_MAGIC if coded else params_lib.HEAD_MAGIC
    scalars, rest = _options(op, magic, _scalar_names(params_lib.HeadParams))
    weights = _weights(op, HEAD_INPUTS, 1)
    if coded:
        weights["weight"] = packing.unpack_rows(weights["weight"], scalars["labels"])
    return params_lib.HeadParams(**scalars, multipliers=np.frombuffer(rest, "<i4"), **weights)


def _is_coded(op: Op, magic: int) -> bool:
    """Whether the options are those of weights of few bits."""
    return op.custom_options[:4] == struct.pack("<i", magic)


def _scalar_names(params: type[_Params]) -> list[str]:
    """Fields before the first array, which is where the blob's scalars end."""
    return [name for name, kind in params.__annotations__.items() if kind is int]


def _options(op: Op, magic: int, names: list[str]) -> tuple[dict[str, Any], bytes]:
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


def _weights(op: Op, names: tuple[str, ...], first: int) -> dict[str, Any]:
    if len(op.inputs) != len(names):
        raise FusedGraphError(f"{op.custom_code}: {len(op.inputs)} inputs, not {len(names)}")
    weights = {}
    for name, tensor in zip(names[first:], op.inputs[first:], strict=True):
        if tensor is None or tensor.data is None:
            raise FusedGraphError(f"{op.custom_code}: {name} is no constant")
        weights[name] = tensor.data
    return weights
