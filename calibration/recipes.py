"""Quantization schemes by name.

| recipe | ranges | one scale a channel | for |
| --- | --- | --- | --- |
| `qat` | learnt: the run's quantization-aware training | conv | a run that QAT has fine-tuned |
| `minmax` | least and largest value seen | conv | a first look; keeps every outlier |
| `percentile` | 0.01 % cut off at either end | conv | activations with rare outliers |
| `mse` | least mean squared error between a value and its int8 | conv | no QAT at hand |
| `qat_mse` | as `mse`, on the weights of QAT | conv | as `qat`, ranges of the final weights |
| `mse_channel` | as `mse` | conv, embed, head | a little finer, 0.5 kB more |
| `qat16` | as `qat` | conv | labels as the fused kernels'; int16 between x, xhat, q, y, SiLU(y) |
| `mse16` | as `mse` | conv | the same without QAT |
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is quantized.

    Attributes:
      name: Its name.
      ranges: "qat", "minmax", "percentile" or "mse".
      per_channel: Weights with one scale an output channel, beside the convolution's.
      qat_weights: Whether to convert the weights that quantization-aware training left.
      int16: Parts of a layer that compute on 16 bits (`converters.portable_graph.INT16_PARTS`).
    """

    name: str
    ranges: str
    per_channel: tuple[str, ...] = ()
    qat_weights: bool = False
    int16: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Returns a JSON-ready dictionary, which is saved beside the model."""
        return dataclasses.asdict(self) | {
            "per_channel": list(self.per_channel),
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
        Recipe("qat16", "qat", qat_weights=True, int16=_INT16),
        Recipe("mse16", "mse", int16=_INT16),
    )
}
