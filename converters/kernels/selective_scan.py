"""MAMBA's selective scan as the operator EMBBERT_SELECTIVE_SCAN computes it, in NumPy integers.

    h_t = exp(d_t A) h_{t-1} + d_t u_t B_t,    y_t = h_t C_t + D u_t,    d = softplus(steps)

with `steps`, u, B, C and y in int8, the state h in int32 and no floating point. `scan` is the
specification of the kernel, `scan_params` makes its integers, `ScanParams.options` and `.tensors`
are what the operator reads of them; docs/selective_scan.md derives the arithmetic.
"""

import dataclasses
import math
import struct
from typing import Any, Protocol

import numpy as np

from converters.kernels import fixed_point, reference
from converters.kernels.fixed_point import check
from converters.tflite.graph import Op

OPERATOR = "EMBBERT_SELECTIVE_SCAN"
# Input indices, the same as in tflm_app/tflm/embbert_scan_op.cc.
INPUTS = ("u", "steps", "state_in", "state_out", "decay", "skip")
MAGIC = 0x314E4353  # "SCN1"

# The limits of tflm_app/tflm/embbert_scan.h.
MAX_LENGTH = 1024
MAX_CHANNELS = 512
MAX_STATES = 16

_HIGH_SHIFT = 23  # by which a difference of two int8 still fits 32 bits
_LAST_OCTAVE = 31  # beyond which a decay is 0
_MOST_STATE = 2**31 - 2**16
_LEAST_FRACTION = 12  # bits behind the point of a decay's exponent

# 2^(-i/128) and what it falls by to the next entry, for straight lines between entries, in units of
# 2^-31; the fall is multiplied by 2^7, as its factor has 25 bits. Lowered by half of the most that
# a chord lies above the curve, (ln 2 / 128)^2 / 8.
_DECAYS = 2.0**31 * np.exp2(-np.arange(128) / 128)
DECAY_TABLE = np.round(
    np.stack([_DECAYS, _DECAYS * (np.exp2(-1 / 128) - 1) * 2**7], axis=1)
    * (1 - (math.log(2) / 128) ** 2 / 16)
).astype(np.int32)


class Quantized(Protocol):
    """What has a scale and a zero point: real = scale * (quantized - zero_point)."""

    scale: Any  # a float
    zero_point: Any  # an int


@dataclasses.dataclass(frozen=True)
class ScanParams:
    """The operator's integers: scalars and weights as `embbert_scan_t` has them.

    ED channels with N states each.
    """

    channels: int
    states: int
    u_zero: int
    state_in_zero: int
    state_out_zero: int
    y_zero: int
    fraction: int  # bits behind the point of exponents of 2, the products of `delta` and `decay`
    state_in_shift: int
    state_out_shift: int
    y_shift: int  # sums of states to 1/256 steps of y
    y_multiplier: int
    delta: np.ndarray  # (256,) int32, softplus of steps = -128..127, above 0
    decay: np.ndarray  # (ED, N) int32, -A log2(e), at least 0
    skip: np.ndarray  # (ED,) int32, D

    def options(self) -> bytes:
        """The options blob: little-endian int32 words, as those of the other operators."""
        names = [field.name for field in dataclasses.fields(self)]
        scalars = [getattr(self, name) for name in names[: names.index("delta")]]
        words = 2 + len(scalars) + self.delta.size
        head = struct.pack(f"<{2 + len(scalars)}i", MAGIC, words, *scalars)
        return head + self.delta.astype("<i4").tobytes()

    def tensors(self) -> dict[str, np.ndarray]:
        """The constant inputs by name, in their order."""
        return {"decay": self.decay, "skip": self.skip}


def read_params(op: Op) -> ScanParams:
    """Reads the integers of an operator, as the device does.

    Args:
        op: A custom operator of the name `OPERATOR`.

    Raises:
        KernelParamsError: Its options or constants are none of this version.
    """
    blob, names = op.custom_options, [field.name for field in dataclasses.fields(ScanParams)]
    scalars = names[: names.index("delta")]
    words = 2 + len(scalars) + 256
    good = len(blob) == 4 * words and struct.unpack_from("<2i", blob) == (MAGIC, words)
    check(good, f"{OPERATOR}: options of {len(blob)} bytes that are none of this version")
    values = np.frombuffer(blob, "<i4", offset=8)
    check(len(op.inputs) == len(INPUTS), f"{OPERATOR}: {len(op.inputs)} inputs")
    weights = [None if tensor is None else tensor.data for tensor in op.inputs[4:]]
    check(all(w is not None for w in weights), f"{OPERATOR}: decay or skip is no constant")
    fields = dict(zip(scalars, map(int, values), strict=False))
    decay, skip = map(np.asarray, weights)
    return ScanParams(**fields, delta=values[len(scalars) :], decay=decay, skip=skip)


def scan(
    params: ScanParams,
    u: np.ndarray,
    steps: np.ndarray,
    state_in: np.ndarray,
    state_out: np.ndarray,
) -> np.ndarray:
    """Computes what the operator computes, for any number of sequences at once.

    Args:
        params: The integers.
        u: int8 (..., S, ED).
        steps: int8 (..., S, ED), before softplus.
        state_in: B, int8 (..., S, N).
        state_out: C, int8 (..., S, N).

    Returns:
        y, int8 (..., S, ED). Row t depends on the rows 0..t.
    """
    p, high = params, reference.multiply_high
    delta = p.delta[steps.astype(np.int64) + 128]
    centred = (u.astype(np.int64) - p.u_zero) << _HIGH_SHIFT
    stepped = high(delta, centred)
    skipped = high(centred, p.skip)
    rows_in = (state_in.astype(np.int64) - p.state_in_zero) << p.state_in_shift
    rows_out = (state_out.astype(np.int64) - p.state_out_zero) << p.state_out_shift
    state = np.zeros((*u.shape[:-2], p.channels, p.states), np.int64)
    y = np.empty(u.shape, np.int8)
    limit = (2**31 - 1) >> p.y_shift
    for t in range(u.shape[-2]):
        kept = high(state, _decays(delta[..., t, :, np.newaxis], p.decay, p.fraction))
        state = 2 * kept + high(stepped[..., t, :, np.newaxis], rows_in[..., t, np.newaxis, :])
        total = high(state, rows_out[..., t, np.newaxis, :]).sum(axis=-1)
        scaled = high(np.clip(total, -limit, limit) << p.y_shift, p.y_multiplier)
        steps_of_y = (scaled + skipped[..., t, :] + 128) >> 8
        y[..., t, :] = np.clip(steps_of_y + p.y_zero, -128, 127)
    return y


def _decays(delta: np.ndarray, decay: np.ndarray, fraction: int) -> np.ndarray:
    """2^-(delta decay) in units of 2^-31, int64."""
    exponent = reference.multiply_high(delta, decay)
    octaves = exponent >> fraction
    # Rotated, as one instruction does it: the octaves end up below everything that matters.
    place = ((exponent << (32 - fraction)) & 0xFFFFFFFF) | octaves
    value, fall = np.moveaxis(DECAY_TABLE[place >> 25], -1, 0)
    value = value + reference.multiply_high(fall, place & ((1 << 25) - 1))
    return value >> np.minimum(octaves, _LAST_OCTAVE)


def scan_params(
    u: Quantized,
    steps: Quantized,
    state_in: Quantized,
    state_out: Quantized,
    y: Quantized,
    log_decay: np.ndarray,
    skip: np.ndarray,
    where: str = "scan",
) -> ScanParams:
    """Makes the operator's integers.

    The state's unit follows from the largest values that inputs in int8 can give it, so that it
    cannot overflow and needs no calibration.

    Args:
        u: Scale and zero point of int8, as of the following.
        steps: Step sizes before softplus.
        state_in: B.
        state_out: C.
        y: The result.
        log_decay: float (ED, N), the logarithm of -A.
        skip: float (ED,), D.
        where: Name of the scan in error messages.

    Raises:
        KernelParamsError: A size or a scale lies outside what the kernel can represent.
    """
    _check(u, steps, state_in, state_out, y, log_decay, skip, where)
    delta, delta_bits, decay, fraction = _exponents(steps, log_decay, where)
    in_shift = _state_in_shift(delta, decay, fraction, _reach(u), _reach(state_in), where)
    channels, states = decay.shape
    out_shift = min(_HIGH_SHIFT, int(math.log2(2**32 / (states * _reach(state_out)))))
    unit = u.scale * state_in.scale * 2.0 ** (41 - in_shift - (31 - delta_bits))
    unit *= state_out.scale * 2.0 ** (32 - out_shift)
    y_shift, y_multiplier = _to_y(256 * unit / y.scale, y, where)
    passed = np.asarray(skip, np.float64) * u.scale / y.scale
    check(bool(np.all(np.abs(passed) < 2**13)), f"{where}: D times u overflows y")
    return ScanParams(
        channels=channels,
        states=states,
        u_zero=int(u.zero_point),
        state_in_zero=int(state_in.zero_point),
        state_out_zero=int(state_out.zero_point),
        y_zero=int(y.zero_point),
        fraction=fraction,
        state_in_shift=in_shift,
        state_out_shift=out_shift,
        y_shift=y_shift,
        y_multiplier=y_multiplier,
        delta=delta,
        decay=decay,
        skip=np.round(passed * 2.0 ** (8 + 32 - _HIGH_SHIFT)).astype(np.int32),
    )


def _exponents(
    steps: Quantized, log_decay: np.ndarray, where: str
) -> tuple[np.ndarray, int, np.ndarray, int]:
    """Returns step sizes in units of 2^(b - 31), b, decays, and the fraction of their products."""
    real = np.logaddexp(0, (np.arange(-128.0, 128) - steps.zero_point) * steps.scale)
    check(bool(np.all((real > 0) & (real < 2**20))), f"{where}: step sizes up to {real.max():g}")
    rates = np.exp(np.asarray(log_decay, np.float64)) * math.log2(math.e)
    bits = _bits(real)
    fraction = min(30, 30 - bits - _bits(rates))
    check(
        fraction >= _LEAST_FRACTION,
        f"{where}: step sizes up to {real.max():g} times decays up to {rates.max():g}",
    )
    return _integers(real, 31 - bits), bits, _integers(rates, fraction + 1 + bits), fraction


def _to_y(factor: float, y: Quantized, where: str) -> tuple[int, int]:
    """Returns shift and multiplier from sums of states to 1/256 steps of y."""
    shift = max(0, math.frexp(factor)[1] + 1)
    check(shift <= 30, f"{where}: the scale of y is {y.scale:g}")
    return shift, min(round(factor * 2.0 ** (32 - shift)), 2**31 - 1)


def _check(
    u: Quantized,
    steps: Quantized,
    state_in: Quantized,
    state_out: Quantized,
    y: Quantized,
    log_decay: np.ndarray,
    skip: np.ndarray,
    where: str,
) -> None:
    channels, states = log_decay.shape
    check(1 <= channels <= MAX_CHANNELS, f"{where}: {channels} channels, not 1..{MAX_CHANNELS}")
    check(1 <= states <= MAX_STATES, f"{where}: {states} states, not 1..{MAX_STATES}")
    check(skip.shape == (channels,), f"{where}: skip of shape {skip.shape}, not ({channels},)")
    for name, q in (("u", u), ("steps", steps), ("B", state_in), ("C", state_out), ("y", y)):
        check(0 < q.scale < math.inf, f"{where}: the scale of {name} is {q.scale:g}")
    check(bool(np.all(log_decay < 700)), f"{where}: a decay is not finite")


def _state_in_shift(
    delta: np.ndarray, decay: np.ndarray, fraction: int, reach_u: int, reach_in: int, where: str
) -> int:
    """The largest left shift of B with which no state can overflow.

    If |h| <= m / (1 - a) for every step size, with its decay a and the most that it adds m, then
    the next state is no larger either; nor is any larger than the longest text times m.
    """
    stepped = delta.astype(np.float64) * reach_u * 2.0 ** (_HIGH_SHIFT - 32) + 1
    kept = _decays(delta[:, np.newaxis, np.newaxis], decay, fraction) / 2.0**31
    for shift in range(_HIGH_SHIFT, -1, -1):
        added = stepped * reach_in * 2.0 ** (shift - 32) + 2
        bound = (added[:, np.newaxis, np.newaxis] / (1 - kept)).max(axis=0)
        if np.minimum(bound, MAX_LENGTH * added.max()).max() <= _MOST_STATE:
            return shift
    raise fixed_point.KernelParamsError(f"{where}: the state would overflow")


def _bits(values: np.ndarray) -> int:
    """The least b with every value below 2^b."""
    return math.frexp(float(values.max()))[1]


def _integers(values: np.ndarray, bits: int) -> np.ndarray:
    return np.minimum(np.round(values * 2.0**bits), 2**31 - 1).astype(np.int32)


def _reach(q: Quantized) -> int:
    """The largest |int8 - zero point|."""
    return max(127 - int(q.zero_point), 128 + int(q.zero_point))
