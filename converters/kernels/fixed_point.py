"""The arithmetic that the fused kernels' constants are made of; docs/kernels.md derives it."""

import math

import numpy as np

from embbert_tf import errors

# Scores are kept in units of 1/256 octave: a weight is EXP2_TABLE[fraction] >> octaves.
SCORE_STEPS = 256
WEIGHT_ONE = 32767

# 32767 * 2^(-i/256): the softmax weights of one octave.
EXP2_TABLE = np.round(WEIGHT_ONE * np.exp2(-np.arange(256) / 256)).astype(np.uint16)

# 2^16 * sqrt(2^30 / u) at the middle of each 2^25 wide interval of u in [2^30, 2^32).
RSQRT_TABLE = np.minimum(
    np.round(2**16 * np.sqrt(2.0**30 / ((np.arange(32, 128) + 0.5) * 2.0**25))), 65535
).astype(np.uint16)


class KernelParamsError(errors.EmbBertError):
    """A model whose scales or shapes the kernels cannot represent; the message says which."""


def check(condition: bool, message: str) -> None:
    """Raises KernelParamsError with `message` unless `condition` holds."""
    if not condition:
        raise KernelParamsError(message)


def fixed_point(real: np.ndarray | float, bound: int, where: str) -> tuple[int, np.ndarray]:
    """Returns shift and multiplier of a rounding high multiply: real = multiplier * 2^shift / 2^32.

    The kernels compute (acc * 2^shift * multiplier + 2^31) >> 32: one rounding. The shift is exact;
    it is the least with which the multiplier fits 31 bits, which keeps most of its precision.

    Args:
        real: Positive factor, or an array of factors that share the shift.
        bound: The largest |acc|.
        where: What is scaled, for error messages.

    Returns:
        shift (0..30) and multiplier, int32 of `real`'s shape.

    Raises:
        KernelParamsError: acc * 2^shift does not fit 32 bits, or a factor is zero or not finite.
    """
    real = np.asarray(real, np.float64)
    check(bool(np.all(np.isfinite(real) & (real > 0))), f"{where}: a scale is zero or not finite")
    shift = max(0, math.frexp(float(real.max()))[1] + 1)
    multiplier = np.round(real * 2.0 ** (32 - shift))
    if multiplier.max() >= 2**31:  # rounded up to the next power of two
        shift += 1
        multiplier = np.round(real * 2.0 ** (32 - shift))
    check(
        shift <= 30 and int(bound) << shift < 2**31,
        f"{where}: factor {real.max():g} is too large for accumulators up to {int(bound)}",
    )
    return shift, multiplier.astype(np.int32)


def silu_table(y_scale: float, y_zero: int, s_scale: float, s_zero: int) -> np.ndarray:
    """Returns SiLU from int8 to int8: (256,) int8 for y = -128..127, rounded to nearest."""
    y = (np.arange(-128, 128) - y_zero) * np.float64(y_scale)
    silu = y * 0.5 * (1 + np.tanh(0.5 * y))
    return np.clip(np.floor(silu / s_scale + 0.5) + s_zero, -128, 127).astype(np.int8)


def mantissa(value: float) -> tuple[int, int]:
    """Returns integer m in [2^30, 2^31) and exponent e with value = m * 2^(e - 31)."""
    fraction, exponent = math.frexp(value)
    result = round(fraction * 2**31)
    return (result, exponent) if result < 2**31 else (result >> 1, exponent + 1)


def row_bound(weights: np.ndarray, reach: int, bias: np.ndarray | int) -> int:
    """Returns the largest |accumulator| of a dense layer.

    Args:
        weights: int8 (out, in).
        reach: Inputs are within +-reach.
        bias: int (out,), or 0.
    """
    rows = np.abs(weights.astype(np.int64)).sum(axis=1) * reach
    return int((rows + np.abs(np.asarray(bias, np.int64))).max())
