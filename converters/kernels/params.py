"""Fixed-point constants of the fused int8 kernels, and the options blobs that carry them.

From an `Int8Model` (real scales) to integers only: multipliers with shifts, the SiLU table, biases
with zero points folded in. `converters/kernels/reference.py` computes with these integers, the C
kernels read them from the blobs, so that the two cannot drift apart. docs/kernels.md derives every
constant.

Weights are int8 here; where they are factors times codes of few bits, as training with 4 bits
leaves them, `tensors` packs the codes and `options` has the factors.

A blob is little-endian int32 words: magic with version, length in words, scalars, arrays; the field
order is that in which `embbert_*_init` in tflm_app/embbert/src/kernels/embbert_common.c reads them.
"""

import dataclasses
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.kernels import packing
from converters.kernels.fixed_point import (
    SCORE_STEPS,
    check,
    fixed_point,
    mantissa,
    row_bound,
    silu_table,
)
from converters.kernels.int8_model import Int8Block, Int8Model

EMBED_MAGIC = 0x31424D45  # "EMB1": kernel and version
BLOCK_MAGIC = 0x314B4C42  # "BLK1"
HEAD_MAGIC = 0x31444548  # "HED1"
# With weights of few bits, by `converters/kernels/packing.py`.
CODED_EMBED_MAGIC = 0x33424D45  # "EMB3"
CODED_BLOCK_MAGIC = 0x334B4C42  # "BLK3"
CODED_HEAD_MAGIC = 0x33444548  # "HED3"

RMS_EPSILON = float(np.finfo(np.float32).eps)

# The limits of tflm_app/embbert/include/embbert_kernels.h.
MAX_LENGTH = 1024
MAX_HIDDEN = 512
MAX_REDUCED = 32
MAX_EXPANSION = 8
MAX_TAPS = 64
MAX_BLOCKS = 16


@dataclasses.dataclass(frozen=True)
class EmbedParams:
    """Nano embedder: scalars and weights as `embbert_embed_t` has them."""

    vocab_size: int
    max_length: int
    reduced: int
    hidden: int
    shift: int
    zero: int
    multipliers: np.ndarray  # (D,) int32
    token: np.ndarray  # (V, R) int8
    position: np.ndarray  # (S, R) int8
    weight: np.ndarray  # (D, 2R) int8
    bias: np.ndarray  # (2, D) int32

    def options(self) -> bytes:
        """The options blob."""
        names = ("vocab_size", "max_length", "reduced", "hidden", "shift", "zero")
        scalars = [getattr(self, name) for name in names]
        table, weight = self._packed()
        if table is None and weight is None:
            return _pack(EMBED_MAGIC, scalars, _words(self.multipliers))
        _, factor, bits = table or (None, 1, 8)
        scalars += [bits, factor, 8 if weight is None else 4]
        return _pack(CODED_EMBED_MAGIC, scalars, _words(self.multipliers))

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights by the name of their pointer in the C struct, in its order."""
        table, weight = self._packed()
        return {
            "token": self.token if table is None else packing.pack_table(table[0], table[2]),
            "position": self.position,
            "weight": self.weight if weight is None else packing.pack_rows(weight),
            "bias": self.bias,
        }

    def _packed(self) -> tuple[tuple[np.ndarray, int, int] | None, np.ndarray | None]:
        """Codes, factor and bits of the token table, and codes of the weight; None for int8."""
        return packing.coded_table(self.token), packing.plain_codes(self.weight)


@dataclasses.dataclass(frozen=True)
class BlockParams:
    """One layer: scalars and weights as `embbert_block_t` has them."""

    hidden: int
    expansion: int
    taps: int
    x_zero: int
    norm_epsilon: int
    norm_multiplier: int
    norm_exponent: int
    q_shift: int
    q_multiplier: int
    q_zero: int
    score_shift: int
    score_multiplier: int
    conv_shift: int
    y_zero: int
    a_shift: int
    a_multiplier: int
    z_shift: int
    z_multiplier: int
    out_zero: int
    conv_multipliers: np.ndarray  # (E*D,) int32
    silu: np.ndarray  # (256,) int8, for y = -128..127
    wq: np.ndarray  # (D, D) int8, out x in
    bq: np.ndarray  # (D,) int32
    wv: np.ndarray  # (D, D) int8, out x in
    conv: np.ndarray  # (E*D, K) int8
    conv_bias: np.ndarray  # (E*D,) int32
    wz: np.ndarray  # (D, E*D) int8, out x in
    bz: np.ndarray  # (D,) int32

    def options(self) -> bytes:
        """The options blob."""
        names = [field.name for field in dataclasses.fields(self)]
        scalars = [getattr(self, name) for name in names[: names.index("conv_multipliers")]]
        arrays = _words(self.conv_multipliers) + self.silu.tobytes()
        coded = self._coded()
        if not coded:
            return _pack(BLOCK_MAGIC, scalars, arrays)
        factors = b"".join(matrix.factors.tobytes() for matrix in coded.values())
        return _pack(CODED_BLOCK_MAGIC, scalars, arrays + factors)

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights by the name of their pointer in the C struct, in its order."""
        names = ("wq", "bq", "wv", "conv", "conv_bias", "wz", "bz")
        coded = {name: packing.pack_rows(matrix.codes) for name, matrix in self._coded().items()}
        return {name: coded.get(name, getattr(self, name)) for name in names}

    def _coded(self) -> dict[str, packing.Coded]:
        """Codes of wq, wv and wz, in this order; empty unless all have them."""
        coded = {}
        for name in ("wq", "wv", "wz"):
            matrix = packing.coded(getattr(self, name))
            if matrix is None:
                return {}
            coded[name] = matrix
        return coded


@dataclasses.dataclass(frozen=True)
class HeadParams:
    """Classifier head: scalars and weights as `embbert_head_t` has them."""

    hidden: int
    labels: int
    shift: int
    zero: int
    multipliers: np.ndarray  # (L,) int32
    weight: np.ndarray  # (L, D) int8
    bias: np.ndarray  # (L,) int32

    def options(self) -> bytes:
        """The options blob."""
        scalars = (self.hidden, self.labels, self.shift, self.zero)
        magic = HEAD_MAGIC if packing.plain_codes(self.weight) is None else CODED_HEAD_MAGIC
        return _pack(magic, scalars, _words(self.multipliers))

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights by the name of their pointer in the C struct, in its order."""
        codes = packing.plain_codes(self.weight)
        weight = self.weight if codes is None else packing.pack_rows(codes)
        return {"weight": weight, "bias": self.bias}


@dataclasses.dataclass(frozen=True)
class ModelParams:
    """Everything that the kernels need of one model."""

    embed: EmbedParams
    blocks: tuple[BlockParams, ...]
    head: HeadParams


def model_params(model: Int8Model) -> ModelParams:
    """The kernels' integers for a model.

    Args:
        model: The int8 model, as `converters.kernels.recognize.extract` gives it.

    Returns:
        Scalars and weights of embedder, blocks and head.

    Raises:
        KernelParamsError: a shape or a scale lies outside what the kernels can represent.
    """
    check(0 < len(model.blocks) <= MAX_BLOCKS, f"{len(model.blocks)} blocks, not 1..{MAX_BLOCKS}")
    return ModelParams(
        embed_params(model),
        tuple(block_params(block, f"block {i}") for i, block in enumerate(model.blocks)),
        head_params(model),
    )


def embed_params(model: Int8Model) -> EmbedParams:
    """The embedder's integers; raises KernelParamsError."""
    d, r = model.d, model.r
    _check_hidden(d, "embedder")
    check(r % 4 == 0 and 4 <= r <= MAX_REDUCED, f"embedder: R={r}, not a multiple of 4 in 4..32")
    check(0 < model.vocab_size <= 65536, f"embedder: {model.vocab_size} tokens, not 1..65536")
    check(
        0 < model.max_length <= MAX_LENGTH, f"embedder: S={model.max_length}, not 1..{MAX_LENGTH}"
    )
    first = model.blocks[0]
    real = model.embed_in_scale * _scales(model.embed_w_scale, d) / float(first.x_scale)
    bound = row_bound(model.embed_w, 128, np.abs(model.embed_bias.astype(np.int64)).max(axis=0))
    shift, multipliers = fixed_point(real, bound, "embedder")
    return EmbedParams(
        vocab_size=model.vocab_size,
        max_length=model.max_length,
        reduced=r,
        hidden=d,
        shift=shift,
        zero=int(first.x_zero),
        multipliers=multipliers,
        token=_int8(model.token, (model.vocab_size, r)),
        position=_int8(model.position, (model.max_length, r)),
        weight=_int8(model.embed_w, (d, 2 * r)),
        bias=_int32(model.embed_bias, (2, d)),
    )


def block_params(block: Int8Block, where: str = "block") -> BlockParams:
    """One layer's integers.

    Args:
        block: The layer.
        where: Its name in error messages.

    Raises:
        KernelParamsError: a shape or a scale lies outside what the kernels can represent.
    """
    d, e, taps = block.d, block.e, block.conv.shape[0]
    _check_hidden(d, where)
    check(1 <= e <= MAX_EXPANSION, f"{where}: E={e}, not 1..{MAX_EXPANSION}")
    check(1 <= taps <= MAX_TAPS, f"{where}: {taps} convolution taps, not 1..{MAX_TAPS}")
    for name in ("x_scale", "xhat_scale", "q_scale", "y_scale", "s_scale", "out_scale"):
        value = float(getattr(block, name))
        check(0 < value < math.inf, f"{where}: {name} is {value:g}")
    return BlockParams(
        hidden=d,
        expansion=e,
        taps=taps,
        x_zero=int(block.x_zero),
        **_norm_fields(block, where),
        **_attention_fields(block, where),
        **_convolution_fields(block, where),
        **_difference_fields(block, where),
        out_zero=int(block.out_zero),
        wq=_int8(block.wq, (d, d)),
        bq=_int32(block.bq, (d,)),
        wv=_int8(block.wv, (d, d)),
        conv=_int8(block.conv.T, (e * d, taps)),
        conv_bias=_int32(block.conv_bias, (e * d,)),
        wz=_int8(block.wz, (d, e * d)),
    )


def _norm_fields(block: Int8Block, where: str) -> dict[str, Any]:
    """RMSNorm: x to xhat."""
    xhat, x_scale, channels = float(block.xhat_scale), float(block.x_scale), block.d - block.padding
    multiplier, exponent = mantissa(math.sqrt(channels) / xhat)
    check(0 < exponent <= 24, f"{where}: xhat_scale is {xhat:g}")
    epsilon = round(channels * RMS_EPSILON / x_scale**2)
    check(epsilon < 2**30, f"{where}: x_scale is {x_scale:g}")
    return {
        "norm_epsilon": epsilon,
        "norm_multiplier": multiplier,
        "norm_exponent": exponent,
    }


def _attention_fields(block: Int8Block, where: str) -> dict[str, Any]:
    """The query, and the scores in 1/256 octave."""
    xhat, q_scale = float(block.xhat_scale), float(block.q_scale)
    wq_scale = _scale(block.wq_scale, f"{where}: query weights")
    q_shift, q_multiplier = fixed_point(
        xhat * wq_scale / q_scale, row_bound(block.wq, 128, block.bq), f"{where}: query"
    )
    reach = max(127 - block.q_zero, 128 + block.q_zero)
    score_shift, score_multiplier = fixed_point(
        q_scale * xhat * math.log2(math.e) * SCORE_STEPS, reach * 128 * block.d, f"{where}: scores"
    )
    return {
        "q_shift": q_shift,
        "q_multiplier": int(q_multiplier),
        "q_zero": int(block.q_zero),
        "score_shift": score_shift,
        "score_multiplier": int(score_multiplier),
    }


def _convolution_fields(block: Int8Block, where: str) -> dict[str, Any]:
    """The convolution, and SiLU of its output."""
    scales = _scales(block.conv_scale, block.e * block.d)
    shift, multipliers = fixed_point(
        float(block.xhat_scale) * scales / float(block.y_scale),
        row_bound(block.conv.T, 128, block.conv_bias),
        f"{where}: convolution",
    )
    return {
        "conv_shift": shift,
        "conv_multipliers": multipliers,
        "y_zero": int(block.y_zero),
        "silu": silu_table(float(block.y_scale), block.y_zero, float(block.s_scale), block.s_zero),
    }


def _difference_fields(block: Int8Block, where: str) -> dict[str, Any]:
    """Both terms of the weighted difference, each in 1/256 of an output step.

    So rounding each before their sum costs nothing. c carries 8 fractional bits already.
    """
    out_scale = float(block.out_scale)
    wv_scale = _scale(block.wv_scale, f"{where}: output weights")
    wz_scale = _scale(block.wz_scale, f"{where}: contraction weights")
    bz = block.bz.astype(np.int64) - int(block.s_zero) * block.wz.astype(np.int64).sum(axis=1)
    a_real = float(block.xhat_scale) * wv_scale / out_scale
    z_real = float(block.s_scale) * wz_scale / out_scale * 256
    a_bound, z_bound = row_bound(block.wv, 2**15, 0), row_bound(block.wz, 128, bz)
    a_shift, a_multiplier = fixed_point(a_real, a_bound, f"{where}: attention output")
    z_shift, z_multiplier = fixed_point(z_real, z_bound, f"{where}: contraction")
    reach = a_bound * a_real + z_bound * z_real
    check(reach < 2**31 - 2**17, f"{where}: output scale {out_scale:g} is too small")
    return {
        "a_shift": a_shift,
        "a_multiplier": int(a_multiplier),
        "z_shift": z_shift,
        "z_multiplier": int(z_multiplier),
        "bz": _int32(bz, (block.d,)),
    }


def head_params(model: Int8Model) -> HeadParams:
    """The head's integers; raises KernelParamsError."""
    last = model.blocks[-1]
    bias = model.head_bias.astype(np.int64) - int(last.out_zero) * model.head_w.astype(
        np.int64
    ).sum(axis=1)
    real = float(last.out_scale) * _scales(model.head_w_scale, model.labels) / model.logits_scale
    shift, multipliers = fixed_point(real, row_bound(model.head_w, 128, bias), "head")
    return HeadParams(
        hidden=model.d,
        labels=model.labels,
        shift=shift,
        zero=int(model.logits_zero),
        multipliers=multipliers,
        weight=_int8(model.head_w, (model.labels, model.d)),
        bias=_int32(bias, (model.labels,)),
    )


def _check_hidden(d: int, where: str) -> None:
    check(d % 16 == 0 and 16 <= d <= MAX_HIDDEN, f"{where}: D={d}, not a multiple of 16 in 16..512")


def _scale(value: np.ndarray | float, where: str) -> float:
    """One scale for a whole tensor."""
    values = np.unique(np.asarray(value, np.float64))
    check(values.size == 1, f"{where}: scales per channel where the kernels take one per tensor")
    return float(values[0])


def _scales(value: np.ndarray | float, channels: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, np.float64).reshape(-1), (channels,))


def _int8(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    check(array.shape == shape, f"a weight of shape {array.shape}, not {shape}")
    check(array.dtype == np.int8, f"a weight of type {array.dtype}, not int8")
    return np.ascontiguousarray(array)


def _int32(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    check(array.shape == shape, f"a bias of shape {array.shape}, not {shape}")
    return np.ascontiguousarray(array, dtype=np.int32)


def _words(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, dtype="<i4").tobytes()


def _pack(magic: int, scalars: Sequence[int], arrays: bytes) -> bytes:
    words = 2 + len(scalars) + len(arrays) // 4
    return struct.pack(f"<{2 + len(scalars)}i", magic, words, *scalars) + arrays
