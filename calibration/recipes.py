"""Quantization schemes by name.

| recipe | ranges | for |
| --- | --- | --- |
| `qat` | those of the run's quantization-aware training | a run that QAT has fine-tuned |
| `minmax` | least and largest value seen | a first look; keeps every outlier |
| `mse` | least mean squared error between a value and its int8 | no QAT at hand |
| `qat4` | as `qat` | half the flash: token table and dense matrices as trained in 4 bits |
| `qat16` | as `qat` | labels as the fused kernels'; int16 between x, xhat, q, y, SiLU(y) |

One scale for each channel: conv always, embed and head where that halves the error of the weights,
wq, wv and wz never, as the fused kernels take one scale there; in 4 bits their channels differ by
integer factors, of which int8 with one scale is made.
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
        weight_bits: Of the token table and of the dense matrices: 8, or 4 as training left them.
    """

    name: str
    ranges: str
    qat_weights: bool = False
    int16: tuple[str, ...] = ()
    weight_bits: int = 8

    def to_dict(self) -> dict:
        """Returns a JSON-ready dictionary, which is saved beside the model."""
        return dataclasses.asdict(self) | {"int16": list(self.int16)}


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("qat", "qat", qat_weights=True),
        Recipe("qat4", "qat", qat_weights=True, weight_bits=4),
        Recipe("minmax", "minmax"),
        Recipe("mse", "mse"),
        Recipe("qat16", "qat", qat_weights=True, int16=("norm", "attention", "branch")),
    )
}


class CalibrationWarning(errors.EmbBertWarning):
    """The calibration sample lacks something that texts on the device will have."""


def choose(name: str | None, weight_bits: int | None, what: object) -> Recipe:
    """Returns the recipe of a name; without a name, what suits the model.

    Args:
        name: Of `RECIPES`; None for "qat" or "qat4" after quantization-aware training, else "mse".
        weight_bits: Of the quantization-aware training that the model went through; None without.
        what: The model, for the message.

    Raises:
        OptionError: There is no such recipe, or it needs ranges that the model did not learn.
    """
    recipe = RECIPES.get(name or {None: "mse", 4: "qat4"}.get(weight_bits, "qat"))
    if recipe is None:
        raise errors.OptionError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    if recipe.qat_weights and weight_bits is None:
        raise errors.OptionError(
            f"{what}: recipe '{recipe.name}' needs a model that was fine-tuned with quantization "
            "(`python -m embbert_tf.qat`); or take the recipe mse"
        )
    if recipe.qat_weights and recipe.weight_bits != weight_bits:
        raise errors.OptionError(
            f"{what}: recipe '{recipe.name}' has weights of {recipe.weight_bits} bits, the model "
            f"was fine-tuned with {weight_bits}; take another recipe or fine-tune it with "
            f"`python -m embbert_tf.qat --weight_bits={recipe.weight_bits}`"
        )
    return recipe
