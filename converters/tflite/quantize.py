"""Scales, zero points and int8 values, as TFLite's quantization specification has them."""

import dataclasses

import numpy as np

from embbert_tf import errors


class RangeError(errors.EmbBertError):
    """A range is missing or cannot be quantized."""


@dataclasses.dataclass(frozen=True)
class Quantization:
    """real = scale * (quantized - zero_point)."""

    scale: float
    zero_point: int

    def quantize(self, values: np.ndarray) -> np.ndarray:
        """Returns `values` as int8, rounded to nearest and clipped."""
        return np.clip(np.round(values / self.scale) + self.zero_point, -128, 127).astype(np.int8)


def activation(low: float, high: float, symmetric: bool = False) -> Quantization:
    """Returns int8 parameters that cover [low, high] and represent 0 exactly.

    Args:
        low: Least value, of any sign.
        high: Largest value.
        symmetric: Zero point 0; the range grows to both sides alike.

    Raises:
        RangeError: Not a finite range.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise RangeError(f"[{low}, {high}] is no finite range")
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        return Quantization(float(np.float32(max(-low, high, 1e-9) / 127)), 0)
    scale = float(np.float32(max(high - low, 1e-9) / 255))
    return Quantization(scale, int(np.clip(np.round(-128 - low / scale), -128, 127)))


def weights(values: np.ndarray, axis: int | None = None) -> tuple[np.ndarray, float | np.ndarray]:
    """Quantizes weights symmetrically to -127..127.

    Args:
        values: Float weights.
        axis: Channel axis for one scale a channel, None for one in all.

    Returns:
        int8 values and the scale: a float, or float32 of the length of `axis`.
    """
    if axis is None:
        scale = float(np.float32(max(np.abs(values).max(), 1e-9) / 127))
        return np.clip(np.round(values / scale), -127, 127).astype(np.int8), scale
    other = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    scales = np.maximum(np.abs(values).max(axis=other), 1e-9).astype(np.float32) / np.float32(127)
    return rounded(values, scales, axis), scales


def rounded(values: np.ndarray, scale: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns weights as -127..127 of a given scale: one, or one for each index of `axis`."""
    if np.ndim(scale):
        shape = [1] * values.ndim
        shape[axis] = -1
        scale = scale.reshape(shape)
    return np.clip(np.round(values / scale), -127, 127).astype(np.int8)


def weight_snr(values: np.ndarray, axis: int | None = None) -> float:
    """Returns how far quantization's noise lies below the weights, in dB.

    Args:
        values: Float weights.
        axis: As for `weights`.
    """
    values = np.asarray(values, np.float64)
    quantized, scale = weights(values, axis)
    if axis is not None:
        scale = np.expand_dims(scale, tuple(i for i in range(values.ndim) if i != axis))
    noise = np.sum((quantized * np.asarray(scale, np.float64) - values) ** 2)
    return float(10 * np.log10(max(np.sum(values**2), 1e-30) / max(noise, 1e-30)))


def bias(values: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """Returns `values` as int32 at `scale` (input scale times weight scale)."""
    quantized = np.round(np.asarray(values, np.float64) / np.asarray(scale, np.float64))
    return np.clip(quantized, -(2**31 - 1), 2**31 - 1).astype(np.int32)
