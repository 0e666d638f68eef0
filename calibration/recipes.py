"""Quantization schemes by name.

| recipe | ranges | for |
| --- | --- | --- |
| `qat` | those of the run's quantization-aware training | a run that QAT has fine-tuned |
| `minmax` | least and largest value seen | a first look; keeps every outlier |
| `mse` | least mean squared error between a value and its int8 | no QAT at hand |
| `qat16` | as `qat` | labels as the fused kernels'; int16 between x, xhat, q, y, SiLU(y) |

One scale for each channel: conv always, embed and head where that halves the error of the weights,
wq, wv and wz never, as the fused kernels take one scale there.
"""

import dataclasses

from embbert_tf import errors


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is quantized.

    Attributes:
        name: Its name.
        ranges: "qat", "minmax" or "mse".
        qat_weights: Whether to convert the weights that quantization-aware training left.
        int16: Parts of a layer that compute on 16 bits: "norm", "attention", "branch".
    """

    name: str
    ranges: str
    qat_weights: bool = False
    int16: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Returns a JSON-ready dictionary, which is saved beside the model."""
        return dataclasses.asdict(self) | {"int16": list(self.int16)}


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("qat", "qat", qat_weights=True),
        Recipe("minmax", "minmax"),
        Recipe("mse", "mse"),
        Recipe("qat16", "qat", qat_weights=True, int16=("norm", "attention", "branch")),
    )
}


class CalibrationWarning(errors.EmbBertWarning):
    """The calibration sample lacks something that texts on the device will have."""


def choose(name: str | None, quantized: bool, what: object) -> Recipe:
    """Returns the recipe of a name; without a name, what suits the model.

    Args:
        name: Of `RECIPES`; None for "qat" after quantization-aware training, else "mse".
        quantized: Whether the model went through quantization-aware training.
        what: The model, for the message.

    Raises:
        OptionError: There is no such recipe, or it needs ranges that the model did not learn.
    """
    recipe = RECIPES.get(name or ("qat" if quantized else "mse"))
    if recipe is None:
        raise errors.OptionError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    if recipe.qat_weights and not quantized:
        raise errors.OptionError(
            f"{what}: recipe '{recipe.name}' needs a model that was fine-tuned with quantization "
            "(`python -m embbert_tf.qat`); or take the recipe mse"
        )
    return recipe
