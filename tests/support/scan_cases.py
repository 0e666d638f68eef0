"""Selective scans with realistic and extreme numbers, and the exact answer to each."""

import dataclasses

import numpy as np

from converters.kernels import selective_scan
from converters.tflite import quantize


@dataclasses.dataclass(frozen=True)
class Inputs:
    """int8 inputs of one sequence: u and steps (S, ED), state_in and state_out (S, N)."""

    u: np.ndarray
    steps: np.ndarray
    state_in: np.ndarray
    state_out: np.ndarray

    def rows(self, count: int) -> "Inputs":
        return Inputs(*(array[:count] for array in self.arrays()))

    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.u, self.steps, self.state_in, self.state_out


@dataclasses.dataclass(frozen=True)
class Scan:
    """A scan in int8 with its float weights, and inputs."""

    params: selective_scan.ScanParams
    log_decay: np.ndarray
    skip: np.ndarray
    quantizations: tuple[quantize.Quantization, ...]  # of u, steps, B, C, y
    inputs: Inputs

    def expected(self, inputs: Inputs) -> np.ndarray:
        return selective_scan.scan(self.params, *inputs.arrays())


def exact(
    u: np.ndarray,
    steps: np.ndarray,
    state_in: np.ndarray,
    state_out: np.ndarray,
    log_decay: np.ndarray,
    skip: np.ndarray,
) -> np.ndarray:
    """The scan in float64, by its definition."""
    delta, rates = np.logaddexp(0, steps), -np.exp(log_decay)
    state, y = np.zeros(log_decay.shape), np.empty(u.shape)
    for t in range(len(u)):
        state = np.exp(delta[t][:, np.newaxis] * rates) * state
        state = state + np.outer(delta[t] * u[t], state_in[t])
        y[t] = state @ state_out[t] + skip * u[t]
    return y


def realistic(
    seed: int, length: int = 64, channels: int = 64, states: int = 6, spread: float = 1.0
) -> Scan:
    """A scan as MAMBA has it after training: step sizes about 0.001 to 0.1, `spread` about them.

    The int8 ranges are those of the inputs, as calibration finds them.
    """
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(length, channels)) * rng.uniform(0.5, 3)
    u = z / (1 + np.exp(-z))
    mean = np.log(np.expm1(np.exp(rng.uniform(np.log(0.001), np.log(0.1), channels))))
    steps = mean + spread * rng.normal(size=(length, channels))
    state_in, state_out = rng.normal(size=(2, length, states)) * rng.uniform(0.2, 3, (2, 1, 1))
    log_decay = np.log(np.arange(1, states + 1)) + 0.5 * spread * rng.normal(
        size=(channels, states)
    )
    skip = 1 + 0.3 * rng.normal(size=channels)
    floats = (u, steps, state_in, state_out)
    return _quantized(floats, log_decay, skip)


def _quantized(floats: tuple[np.ndarray, ...], log_decay: np.ndarray, skip: np.ndarray) -> Scan:
    quantizations = [quantize.activation(x.min(), x.max()) for x in floats]
    inputs = Inputs(*(q.quantize(x) for q, x in zip(quantizations, floats, strict=True)))
    y = exact(*dequantized(inputs, quantizations), log_decay, skip)
    quantizations.append(quantize.activation(y.min(), y.max()))
    params = selective_scan.scan_params(*quantizations, log_decay, skip)
    return Scan(params, log_decay, skip, tuple(quantizations), inputs)


def dequantized(inputs: Inputs, quantizations) -> tuple[np.ndarray, ...]:
    pairs = zip(quantizations[:4], inputs.arrays(), strict=True)
    return tuple(q.scale * (x.astype(np.float64) - q.zero_point) for q, x in pairs)


def extreme(seed: int, length: int = 40, channels: int = 5, states: int = 3) -> Scan:
    """Every int8 value with scales and weights of any size: what overflows where anything can."""
    rng = np.random.default_rng(seed)

    def wide(low, high, *shape):
        return np.exp(rng.uniform(np.log(low), np.log(high), shape))

    quantizations = [
        quantize.Quantization(float(wide(1e-4, 10)), int(rng.integers(-128, 128))) for _ in range(5)
    ]
    log_decay = np.log(wide(1e-6, 30, channels, states))
    steps = quantize.Quantization(float(wide(1e-3, 0.15)), int(rng.integers(-128, 128)))
    quantizations[1] = steps
    u = quantizations[0]
    y = quantize.Quantization(float(u.scale * wide(0.01, 100)), int(rng.integers(-128, 128)))
    quantizations[4] = y
    skip = rng.normal(size=channels)
    params = selective_scan.scan_params(*quantizations, log_decay, skip)
    shapes = [(length, channels)] * 2 + [(length, states)] * 2
    # Runs of the same extreme value drive the state to its limits.
    arrays = [
        np.where(
            rng.random(shape) < 0.2,
            rng.integers(-128, 128, shape),
            rng.choice([-128, 127]) * np.ones(shape, int),
        ).clip(-128, 127)
        for shape in shapes
    ]
    inputs = Inputs(*(array.astype(np.int8) for array in arrays))
    return Scan(params, log_decay, skip, tuple(quantizations), inputs)
