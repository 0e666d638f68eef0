"""The quantizers of a model's activations, by name: what every quantized model has."""

from collections.abc import Iterable, Mapping

from embbert_tf.quantization import fake_quant, folding
from embbert_tf.quantization import ranges as ranges_lib


class LearntRanges:
    """A part of a Keras model that holds `activation_quantizers`.

    Attributes:
        activation_quantizers: Activation name to its `ActivationQuantizer`.
    """

    activation_quantizers: dict[str, fake_quant.ActivationQuantizer]

    @staticmethod
    def quantizers_of(names: Iterable[str]) -> dict[str, fake_quant.ActivationQuantizer]:
        """Returns a quantizer for each activation, symmetric where the device's is."""
        return {
            name: fake_quant.ActivationQuantizer(folding.kind(name) in folding.SYMMETRIC, name=name)
            for name in names
        }

    def learn_ranges(self) -> None:
        """Makes the ranges trainable; those of `ranges.NEVER_CUT` grow instead."""
        for name, quantizer in self.activation_quantizers.items():
            if folding.kind(name) in ranges_lib.NEVER_CUT:
                quantizer.grow()
            else:
                quantizer.learn()

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Returns activation name to (low, high)."""
        return {name: layer.range() for name, layer in self.activation_quantizers.items()}

    def restore_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Sets the ranges to what `ranges` returned once.

        Raises:
            ValueError: An activation is missing or unknown.
        """
        for name in sorted({*ranges} ^ {*self.activation_quantizers}):
            raise ValueError(f"range of {name} {'is unknown' if name in ranges else 'is missing'}")
        for name, (low, high) in ranges.items():
            self.activation_quantizers[name].set_range(low, high)
