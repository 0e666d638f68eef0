"""The fused kernels in NumPy: every int8 that the C library in tflm_app/embbert computes.

This is the specification of the kernels' arithmetic, written to be read and to be fast enough for
whole test sets: matrix products run in floating point where every partial sum is an integer that
the type holds exactly (below 2^24 in float32, 2^53 in float64). docs/kernels.md says why.
"""

from collections.abc import Callable, Sequence

import numpy as np

from converters.kernels import fixed_point
from converters.kernels import params as params_lib
from converters.kernels.int8_model import Int8Model

Ids = Sequence[int] | np.ndarray
Tap = Callable[[str, np.ndarray], object]

_HALF = 1 << 31  # half of 2^32, what a rounding high multiply adds
_MOST_WHOLE_WEIGHTS = 512  # keys beyond which the softmax's numerators are halved


def multiply_high(a: np.ndarray | int, b: np.ndarray | int) -> np.ndarray:
    """(a * b + 2^31) >> 32 of int32 values: SMMULR, VRMULH, and the kernels' only rounding."""
    return (np.asarray(a, np.int64) * np.asarray(b, np.int64) + _HALF) >> 32


def requantize(acc: np.ndarray, shift: int, multiplier: np.ndarray | int, zero: int) -> np.ndarray:
    """Accumulator to int8: the rounding high multiply, the zero point, saturation."""
    scaled = multiply_high(np.asarray(acc, np.int64) << shift, multiplier)
    return np.clip(scaled + zero, -128, 127).astype(np.int8)


def rsqrt(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1/sqrt(v) for v in 1..2^32-1 as (y, half) with 1/sqrt(v) = y * 2^(half - 46).

    v is shifted left by 2 * half into u in [2^30, 2^32); y = 2^31 * sqrt(2^30 / u) by a table of 96
    entries and two Newton steps, relative error below 2^-26.
    """
    v = np.asarray(v, np.uint64)
    bits = np.frexp(v.astype(np.float64))[1]  # exact: v < 2^53
    half = (32 - bits) // 2
    u = v << (2 * half).astype(np.uint64)
    y = fixed_point.RSQRT_TABLE[(u >> np.uint64(25)).astype(np.int64) - 32].astype(np.uint64)
    y <<= np.uint64(15)
    for _ in range(2):
        square = (y * y) >> np.uint64(32)  # 2^30 * y^2
        product = (u * square) >> np.uint64(32)  # 2^28 * u * y^2
        y = (y * (np.uint64(3 << 28) - product)) >> np.uint64(29)
    return y.astype(np.int64), half


def normalize(params: params_lib.BlockParams, x: np.ndarray) -> np.ndarray:
    """RMSNorm without gain: x (n, D) int8 to xhat (n, D) int8."""
    centred = x.astype(np.int64) - params.x_zero
    total = (centred * centred).sum(axis=1) + params.norm_epsilon
    y, half = rsqrt(np.maximum(total, 1))
    multiplier = (y * params.norm_multiplier) >> 32
    shift = params.norm_exponent - 13 + half
    multiplier = np.where(total > 0, multiplier >> np.maximum(-shift, 0), 0)
    shift = np.maximum(shift, 0)
    scaled = multiply_high(centred << shift[:, None], multiplier[:, None])
    return np.clip(scaled, -128, 127).astype(np.int8)


def weights_of(scores: np.ndarray) -> np.ndarray:
    """Softmax numerators of int16 scores (rows, n) in 1/256 octave: 0..32767, int64.

    Of more than 512 keys they are halved, so that a sum over keys fits 32 bits.
    """
    below = np.minimum(scores.max(axis=1, keepdims=True) - scores, 8191)
    doubled = 2 * fixed_point.EXP2_TABLE[below & 255].astype(np.int64)
    weights = ((doubled >> (below >> 8)) + 1) >> 1
    return weights if scores.shape[1] <= _MOST_WHOLE_WEIGHTS else (weights + 1) >> 1


def divide_rows(acc: np.ndarray, total: np.ndarray) -> np.ndarray:
    """round(256 * acc / total) by one reciprocal a row, acc (rows, D), total (rows,) <= 2^24."""
    total = np.minimum(total, (1 << 24) - 1)  # 1024 equal halved weights alone are 2^24
    length = np.frexp(total.astype(np.float64))[1]  # total in [2^(length-1), 2^length)
    reciprocal = ((np.int64(1) << (16 + length)) + total // 2) // total
    return multiply_high(acc << (24 - length)[:, None], reciprocal[:, None])


class _Block:
    """One layer with its weights as floats."""

    def __init__(self, params: params_lib.BlockParams) -> None:
        self.params = params
        self.wq = np.ascontiguousarray(params.wq.T, np.float32)
        self.wv = np.ascontiguousarray(params.wv.T, np.float64)
        self.wz = np.ascontiguousarray(
            params.wz.T, np.float32 if params.wz.shape[1] < 1024 else float
        )
        self.conv = np.ascontiguousarray(params.conv.T, np.float32)  # (K, E*D)

    def __call__(self, x: np.ndarray, rows: int, tap: Tap | None = None) -> np.ndarray:
        p = self.params
        xhat = normalize(p, x)
        keys = xhat.astype(np.float32)

        acc = (keys[:rows] @ self.wq).astype(np.int64) + p.bq
        q = requantize(acc, p.q_shift, p.q_multiplier, p.q_zero)
        acc = ((q.astype(np.float32) - p.q_zero) @ keys.T).astype(np.int64)
        scores = multiply_high(acc << p.score_shift, p.score_multiplier)
        weights = weights_of(np.clip(scores, -32768, 32767))
        acc = (weights.astype(np.float64) @ xhat.astype(np.float64)).astype(np.int64)
        c = divide_rows(acc, weights.sum(axis=1))

        acc = np.zeros((rows, p.expansion * p.hidden), np.float32)
        spread = np.repeat(keys, p.expansion, axis=1)
        for tap_back in range(min(p.taps, rows)):  # position t meets row t - tap_back
            acc[tap_back:] += spread[: rows - tap_back] * self.conv[p.taps - 1 - tap_back]
        acc = acc.astype(np.int64) + p.conv_bias
        y = requantize(acc, p.conv_shift, p.conv_multipliers, p.y_zero)
        s = p.silu[y.astype(np.int64) + 128]

        a = (c.astype(np.float64) @ self.wv).astype(np.int64)
        z = (s.astype(self.wz.dtype) @ self.wz).astype(np.int64) + p.bz
        out = (
            multiply_high(a << p.a_shift, p.a_multiplier)
            + multiply_high(z << p.z_shift, p.z_multiplier)
            + 128
        ) >> 8
        out = np.clip(out + p.out_zero, -128, 127).astype(np.int8)
        if tap is not None:
            for name, value in (
                ("xhat", xhat),
                ("q", q),
                ("scores", scores),
                ("c", c),
                ("y", y),
                ("s", s),
                ("out", out),
            ):
                tap(name, value)
        return out


class Reference:
    """The whole model.

    Args:
        model: An `Int8Model`, or the `ModelParams` made from one.

    Raises:
        KernelParamsError: the kernels cannot represent the model.
    """

    def __init__(self, model: Int8Model | params_lib.ModelParams) -> None:
        if isinstance(model, Int8Model):
            model = params_lib.model_params(model)
        self.params = model
        self._embed_w = np.ascontiguousarray(model.embed.weight.T, np.float32)
        self._blocks = [_Block(params) for params in model.blocks]

    def embed(self, ids: Ids, segments: Ids | None = None) -> np.ndarray:
        """Token ids (n,) and segments (n,) of 1 and 2, or None for all 1, to x0 (n, D) int8.

        Raises:
            ValueError: n outside 1..max_length, or an id or a segment out of range.
        """
        p = self.params.embed
        ids = np.asarray(ids, np.int64)
        segments = np.ones_like(ids) if segments is None else np.asarray(segments, np.int64)
        if not 1 <= len(ids) <= p.max_length:
            raise ValueError(f"{len(ids)} tokens, not 1..{p.max_length}")
        if ids.min() < 0 or ids.max() >= p.vocab_size:
            raise ValueError(f"token ids {ids.min()}..{ids.max()}, not 0..{p.vocab_size - 1}")
        if segments.shape != ids.shape or not np.isin(segments, (1, 2)).all():
            raise ValueError("segments must be as many as tokens, each 1 or 2")
        inputs = np.concatenate([p.token[ids], p.position[: len(ids)]], axis=1)
        acc = (inputs.astype(np.float32) @ self._embed_w).astype(np.int64) + p.bias[segments - 1]
        return requantize(acc, p.shift, p.multipliers, p.zero)

    def block(
        self, layer: int, x: np.ndarray, rows: int | None = None, tap: Tap | None = None
    ) -> np.ndarray:
        """Layer `layer`: x (n, D) int8 to its first `rows` output rows, (rows, D) int8; None: all.

        `tap(name, array)`, when given, is called with xhat, q, scores, c, y, s and out.
        """
        return self._blocks[layer](x, len(x) if rows is None else rows, tap)

    def head(self, x: np.ndarray) -> np.ndarray:
        """First row of the last block (D,) int8 to logits (L,) int8."""
        p = self.params.head
        acc = p.weight.astype(np.int64) @ x.astype(np.int64) + p.bias
        return requantize(acc, p.shift, p.multipliers, p.zero)

    def infer(self, ids: Ids, segments: Ids | None = None) -> np.ndarray:
        """Real token ids (n,), no padding, to logits (L,) int8; raises ValueError as `embed`."""
        x = self.embed(ids, segments)
        last = len(self._blocks) - 1
        for layer in range(len(self._blocks)):
            x = self.block(layer, x, 1 if layer == last else None)
        return self.head(x[0])
