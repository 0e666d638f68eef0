"""Scales of the portable graph's activations, from the ranges of calibration or training."""

from collections.abc import Mapping

import numpy as np

from converters.tflite import quantize

# Room that int16 tensors have beyond their calibrated range: 14 bits of resolution are plenty.
_HEADROOM = 4.0


class Scales:
    """Quantization of activations by name.

    Args:
        ranges: Activation name of `folding.activation_names` to (low, high).
    """

    def __init__(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        self._ranges = ranges
        # A search for the best cut builds hundreds of graphs of the same activations.
        self._made: dict[tuple[str, bool], quantize.Quantization] = {}

    def of(self, name: str, symmetric: bool = False) -> quantize.Quantization:
        """Returns the int8 quantization of an activation.

        Raises:
            RangeError: Its range is missing or infinite.
        """
        if (name, symmetric) not in self._made:
            low, high = self._range(name)
            try:
                self._made[name, symmetric] = quantize.activation(low, high, symmetric)
            except quantize.RangeError as error:
                raise quantize.RangeError(f"activation '{name}': {error}") from error
        return self._made[name, symmetric]

    def xhat(self, layer: int) -> quantize.Quantization:
        """Returns that of a layer's normalised input, whose zero point is 0."""
        return self.of(f"xhat{layer}", symmetric=True)

    def product(self, layer: int) -> float:
        """Returns the scale of the scores' 32-bit sums, which their bias shares."""
        return self.of(f"q{layer}").scale * self.xhat(layer).scale

    def high(self, name: str) -> float:
        """Returns the upper end of a range, above 0."""
        return max(self._range(name)[1], 1e-9)

    def wide(self, name: str) -> float:
        """Returns the scale of an activation on int16, with room beyond its range."""
        return _HEADROOM * max(*map(abs, self._range(name)), 1e-9) / 32767

    def _range(self, name: str) -> tuple[float, float]:
        if name not in self._ranges:
            raise quantize.RangeError(
                f"no range for activation '{name}': run calibration or QAT for this model again"
            )
        low, high = map(float, self._ranges[name])
        if not np.isfinite([low, high]).all():
            raise quantize.RangeError(f"activation '{name}': [{low}, {high}] is no finite range")
        return low, high
