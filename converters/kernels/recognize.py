"""The int8 EmbBERT of a portable `.tflite`, as NumPy arrays.

The `.tflite` is the one source of weights and scales: `extract` reads them back from its graph, and
everything made for the device (NumPy reference, model image, fused custom operators) starts here.
"""

import functools
from typing import Any

import numpy as np

from converters.kernels import int8_model, recognize_block
from converters.kernels.graph_walk import NotEmbBertError, Part, Walk
from converters.tflite import reader
from converters.tflite.graph import Graph, Op, Tensor
from embbert_tf.model import special_tokens

__all__ = ["NotEmbBertError", "Part", "activations", "extract", "model_of"]


def extract(data: bytes) -> int8_model.Int8Model:
    """Reads the model back from a portable `.tflite`.

    Args:
        data: The file that `converters.convert_tflite` wrote.

    Returns:
        The model, its hidden size brought to one that the kernels take (`int8_model.padded`).

    Raises:
        NotEmbBertError: The graph is another one; the message says where recognition stopped.
        FlatbufferError: `data` is no readable `.tflite`.
    """
    return model_of(reader.read(data))


def model_of(graph: Graph) -> int8_model.Int8Model:
    """As `extract`, of a graph that has been read."""
    return int8_model.padded(_model(Walk(graph)))


def activations(graph: Graph) -> dict[str, list[Part]]:
    """Finds the activations of a portable graph by name.

    Args:
        graph: From `converters.tflite.reader.read`.

    Returns:
        For each name of `embbert_tf.quantization.folding.activation_names` the tensors that hold
        it, in the order of their rows; together they hold all rows that the graph computes.

    Raises:
        NotEmbBertError: The graph is another one.
    """
    walk = Walk(graph)
    _model(walk)
    return {name: sorted(parts, key=lambda p: p.row) for name, parts in walk.parts.items()}


def _model(walk: Walk) -> int8_model.Int8Model:
    graph = walk.graph
    if not 1 <= len(graph.inputs) <= 2 or len(graph.outputs) != 1:
        walk.fail(f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs")
    embedder, x, padding = _embedder(walk)
    walk.found("x0", x)
    blocks: list[int8_model.Int8Block] = []
    last = False
    while not last:
        block, x, last = recognize_block.BlockReader(walk, len(blocks), x, padding).read()
        blocks.append(block)
    head = walk.next(x, "FULLY_CONNECTED", "classifier head")
    head_w, head_scale, head_bias = walk.dense_with_bias(head, "classifier head")
    logits = walk.take(head)
    walk.found("logits", logits)
    if logits is not graph.outputs[0]:
        walk.fail("the head is not the graph's output", head)
    for op in graph.ops:
        if id(op) not in walk.known:
            walk.fail("an operator that EmbBERT does not have", op)
    return int8_model.Int8Model(
        **embedder,
        labels=head_w.shape[0],
        pair=len(graph.inputs) == 2,
        blocks=tuple(blocks),
        head_w=head_w,
        head_w_scale=head_scale,
        head_bias=head_bias,
        logits_scale=walk.scale(logits),
        logits_zero=int(logits.zero_point),
    )


def _padding(walk: Walk) -> Tensor:
    """Returns the mask that is made from the ids of padding."""
    real = walk.take(walk.next(walk.graph.inputs[0], "MINIMUM", "padding mask"))
    if walk.used_by(real, "MUL"):  # limits of int16 scores rather than a bias of int8 ones
        limits = walk.take(walk.next(real, "MUL", "padding mask"))
        return walk.take(walk.next(limits, "QUANTIZE", "padding mask"))
    return walk.take(walk.next(real, "SUB", "padding mask"))


def _begins_at(walk: Walk, what: str, column: int, op: Op) -> bool:
    """Whether a SLICE takes the columns from this one on."""
    return bool(walk.array(op, 1, what)[-1] == column)


def _looked_up(walk: Walk) -> tuple[np.ndarray, Tensor, Tensor]:
    """Returns the token table (V, R), the rows of it that the ids name, and the mask of padding."""
    what = "token embedding"
    lookup = walk.next(walk.graph.inputs[0], "GATHER", what)
    walk.shape(walk.constant(lookup, 0, "token table"), 2, "token table")
    table, rows = walk.array(lookup, 0, "token table"), lookup.outputs[0]
    if not walk.used_by(rows, "SLICE"):
        return table, rows, _padding(walk)
    # For an NPU: the last column says which ids are padding.
    r = table.shape[1] - 1
    if not np.array_equal(np.flatnonzero(table[:, r] != 127), [special_tokens.PAD]):
        walk.fail("the token table's last column does not say which ids are padding", lookup)
    token, real = (
        walk.next(rows, "SLICE", what, functools.partial(_begins_at, walk, what, at))
        for at in (0, r)
    )
    padding = walk.take(walk.next(real.outputs[0], "RESHAPE", "padding mask"))
    return np.ascontiguousarray(table[:, :r]), token.outputs[0], padding


def _embedder(walk: Walk) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Returns the embedder's fields of `Int8Model`, x0 (S, D), and the mask of padding."""
    token, rows, padding = _looked_up(walk)
    join = walk.next(rows, "CONCATENATION", "embedder")
    position = walk.constant(join, 1, "position table")
    embed = walk.next(join.outputs[0], "FULLY_CONNECTED", "embedder")
    weight, weight_scale, bias = walk.dense_with_bias(embed, "embedder")
    v, r = token.shape
    length, d = walk.shape(embed.outputs[0], 2, "embedder")
    biases = _segment_biases(walk, weight, bias, r)
    if r + position.shape[-1] > weight.shape[1]:
        walk.fail("embedder's weights are too narrow", embed)
    fields = {
        "vocab_size": v,
        "r": r,
        "max_length": length,
        "d": d,
        "token": token,
        "position": walk.array(join, 1, "position table").reshape(length, r),
        "embed_in_scale": walk.scale(join.outputs[0]),
        "embed_w": np.ascontiguousarray(weight[:, : 2 * r]),
        "embed_w_scale": weight_scale,
        "embed_bias": biases.astype(np.int32),
    }
    return fields, embed.outputs[0], padding


def _segment_biases(walk: Walk, weight: np.ndarray, bias: np.ndarray, r: int) -> np.ndarray:
    """Returns the embedder's bias (2, D) by segment, the segments' embeddings folded in."""
    if len(walk.graph.inputs) == 1:
        return np.stack([bias, bias])
    segment = walk.next(walk.graph.inputs[1], "GATHER", "segment embedding")
    table = walk.array(segment, 0, "segment table").astype(np.int32)
    columns = weight[:, 2 * r :].astype(np.int32)
    return np.stack([bias + columns @ table[1], bias + columns @ table[2]])
