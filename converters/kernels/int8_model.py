"""The int8 model: weights, scales and zero points of every part."""

import dataclasses
from typing import Any

import numpy as np

# The kernels' hidden sizes are multiples of this.
WIDTH = 16


@dataclasses.dataclass(frozen=True)
class Int8Block:
    """One EmbBERT layer, RMSNorm gain, 1/sqrt(D) and both lambda factors folded in.

    Weight scales are float32 scalars (per tensor) or arrays, one element an output channel.

    Attributes:
        d: Hidden size D.
        e: Forward expansion E.
        k: Convolution kernel K.
        x_scale, x_zero: Quantization of the block's input (n, D).
        xhat_scale: Scale of the normalised input, zero point 0.
        wq: (D, D) int8, out x in; wq_scale its scale.
        bq: (D,) int32 at xhat_scale * wq_scale.
        q_scale, q_zero: Quantization of the query.
        wv: (D, D) int8, out x in: the output projection, applied to A.xhat; wv_scale its scale.
        conv: (K, E*D) int8; row K-1 meets the current position. The last block of a model may hold
          row K-1 alone, (1, E*D).
        conv_scale: (E*D,) float32.
        conv_bias: (E*D,) int32 at xhat_scale * conv_scale.
        y_scale, y_zero: Quantization of the convolution's output.
        s_scale, s_zero: Quantization of SiLU(y).
        wz: (D, E*D) int8, out x in: the contraction; wz_scale its scale.
        bz: (D,) int32 at s_scale * wz_scale.
        out_scale, out_zero: Quantization of the block's output.
        padding: How many of the D channels are there for the kernels alone, the last ones: they
          hold zero, and RMSNorm's mean leaves them out.
    """

    d: int
    e: int
    k: int
    x_scale: float
    x_zero: int
    xhat_scale: float
    wq: np.ndarray
    wq_scale: float | np.ndarray
    bq: np.ndarray
    q_scale: float
    q_zero: int
    wv: np.ndarray
    wv_scale: float | np.ndarray
    conv: np.ndarray
    conv_scale: np.ndarray
    conv_bias: np.ndarray
    y_scale: float
    y_zero: int
    s_scale: float
    s_zero: int
    wz: np.ndarray
    wz_scale: float | np.ndarray
    bz: np.ndarray
    out_scale: float
    out_zero: int
    padding: int = 0


@dataclasses.dataclass(frozen=True)
class Int8Model:
    """A whole int8 EmbBERT classifier.

    Attributes:
        vocab_size: V.
        r: Reduced embedding size R.
        max_length: S, the longest input in tokens.
        d: Hidden size D.
        labels: Outputs of the head L.
        pair: Whether segment 2 exists (sentence pairs).
        token: (V, R) int8 at embed_in_scale.
        position: (S, R) int8 at embed_in_scale.
        embed_in_scale: Scale of both tables, zero point 0 (column scales are folded into embed_w).
        embed_w: (D, 2R) int8, out x in: columns 0..R-1 meet the token, R..2R-1 the position.
          embed_w_scale: Its scale.
        embed_bias: (2, D) int32 at embed_in_scale * embed_w_scale: row s-1 for segment s.
        blocks: The layers.
        head_w: (L, D) int8; head_w_scale its scale.
        head_bias: (L,) int32 at blocks[-1].out_scale * head_w_scale.
        logits_scale, logits_zero: Quantization of the output.
    """

    vocab_size: int
    r: int
    max_length: int
    d: int
    labels: int
    pair: bool
    token: np.ndarray
    position: np.ndarray
    embed_in_scale: float
    embed_w: np.ndarray
    embed_w_scale: float | np.ndarray
    embed_bias: np.ndarray
    blocks: tuple[Int8Block, ...]
    head_w: np.ndarray
    head_w_scale: float | np.ndarray
    head_bias: np.ndarray
    logits_scale: float
    logits_zero: int


def padded(model: Int8Model) -> Int8Model:
    """Returns a model with a hidden size that the kernels take, and the same answers to the bit.

    Where D is no multiple of 16, channels that hold zero, without weights from or to them, make it
    one.

    Args:
        model: Without padding.
    """
    more = -model.d % WIDTH
    if not more:
        return model
    return dataclasses.replace(
        model,
        d=model.d + more,
        embed_w=_widen(model.embed_w, more, 0),
        embed_w_scale=_widen_scale(model.embed_w_scale, more),
        embed_bias=_widen(model.embed_bias, more, 1),
        blocks=tuple(_padded_block(block, more) for block in model.blocks),
        head_w=_widen(model.head_w, more, 1),
    )


def _padded_block(block: Int8Block, more: int) -> Int8Block:
    fields: dict[str, Any] = {
        "wq": _widen(_widen(block.wq, more, 0), more, 1),
        "wv": _widen(_widen(block.wv, more, 0), more, 1),
        "bq": _widen(block.bq, more, 0),
        "conv": _widen(block.conv, block.e * more, 1),
        "conv_scale": _widen_scale(block.conv_scale, block.e * more),
        "conv_bias": _widen(block.conv_bias, block.e * more, 0),
        "wz": _widen(_widen(block.wz, more, 0), block.e * more, 1),
        "bz": _widen(block.bz, more, 0),
    }
    return dataclasses.replace(block, d=block.d + more, padding=more, **fields)


def _widen(array: np.ndarray, more: int, axis: int) -> np.ndarray:
    """Appends zeros to an axis."""
    return np.pad(array, [(0, more if i == axis else 0) for i in range(array.ndim)])


def _widen_scale(scale: float | np.ndarray, more: int) -> float | np.ndarray:
    """Appends scales, if there is one a channel, that ask for no other shift than the present."""
    values = np.asarray(scale)
    return np.pad(values, (0, more), mode="edge") if values.size > 1 else scale
