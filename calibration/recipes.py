"""Quantization schemes by name.

| recipe | ranges | for |
| --- | --- | --- |
| `qat` | those of the run's quantization-aware training | a run that QAT has fine-tuned |
| `minmax` | least and largest value seen | a first look; keeps every outlier |
| `percentile` | 0.01 % cut off at either end | activations with rare outliers |
| `mse` | least mean squared error between a value and its int8 | no QAT at hand |
| `qat_mse` | as `mse`, on the weights of QAT | as `qat`, ranges of the final weights |
| `mse_channel` | as `mse` | embed and head with one scale a channel in any case |
| `mse_symmetric` | as `mse`, the same to both sides of 0 | hardware that wants zero point 0 |
| `qat16` | as `qat` | labels as the fused kernels'; int16 between x, xhat, q, y, SiLU(y) |
| `mse16` | as `mse` | the same without QAT |

One scale for each channel: conv always, embed and head where that halves the error of the weights,
wq, wv and wz never, as the fused kernels take one scale there.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is quantized.

    Attributes:
      name: Its name.
      ranges: "qat", "minmax", "percentile" or "mse".
      per_channel: Weights with one scale an output channel, beside the convolution's; None lets
        the measured error of each decide.
      qat_weights: Whether to convert the weights that quantization-aware training left.
      int16: Parts of a layer that compute on 16 bits (`converters.portable_graph.INT16_PARTS`).
      symmetric: Whether every activation has zero point 0, instead of x̂ and v alone.
    """

    name: str
    ranges: str
    per_channel: tuple[str, ...] | None = None
    qat_weights: bool = False
    int16: tuple[str, ...] = ()
    symmetric: bool = False

    def to_dict(self) -> dict:
        """Returns a JSON-ready dictionary, which is saved beside the model."""
        return dataclasses.asdict(self) | {
            "per_channel": None if self.per_channel is None else list(self.per_channel),
            "int16": list(self.int16),
        }


_INT16 = ("norm", "attention", "branch")


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("qat", "qat", qat_weights=True),
        Recipe("qat_mse", "mse", qat_weights=True),
        Recipe("minmax", "minmax"),
        Recipe("percentile", "percentile"),
        Recipe("mse", "mse"),
        Recipe("mse_channel", "mse", ("embed", "head")),
        Recipe("mse_symmetric", "mse", symmetric=True),
        Recipe("qat16", "qat", qat_weights=True, int16=_INT16),
        Recipe("mse16", "mse", int16=_INT16),
    )
}
