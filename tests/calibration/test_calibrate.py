"""Ranges under each recipe, and which recipe a model gets."""

import dataclasses

import pytest

from calibration import calibrate, recipes, samples
from embbert_tf import errors
from embbert_tf.data.examples import Example
from embbert_tf.quantization import folding
from tests.support import portable_models as pm


@pytest.fixture(scope="module")
def model():
    return pm.random_folded(pm.ONE_LAYER)


SEQUENCES = [[2, 7, 9, 11], [2, 30, 8], [2, 50]]


def test_learnt_ranges_stay_but_for_scores_and_logits(model):
    """Scores reach as deep as the padding mask needs; no logit that was seen is cut."""
    seen = calibrate.calibrate(model, recipes.RECIPES["minmax"], SEQUENCES)
    learnt = {name: (low / 2, high / 2) for name, (low, high) in seen.items()}
    found = calibrate.calibrate(model, recipes.RECIPES["qat"], SEQUENCES, learnt)
    for name, (low, high) in found.items():
        if name == "scores0":
            assert low == seen[name][0]
            assert high == learnt[name][1]
        elif name == "logits":
            assert (low, high) == (min(seen[name][0], low), max(seen[name][1], high))
            assert low <= seen[name][0] and high >= seen[name][1]
        else:
            assert (low, high) == learnt[name]
    wide = calibrate.calibrate(model, recipes.RECIPES["qat16"], SEQUENCES, learnt)
    for name in ("ms0", "r0", "logits"):
        assert wide[name][1] >= seen[name][1]


def test_what_is_missing_is_named(model):
    with pytest.raises(ValueError, match="takes learnt ranges"):
        calibrate.calibrate(model, recipes.RECIPES["qat"], SEQUENCES)
    with pytest.raises(ValueError, match="at least one sample"):
        calibrate.calibrate(model, recipes.RECIPES["mse"], [])


def test_measured_ranges_have_every_activation(model):
    for name in ("mse", "minmax"):
        found = calibrate.calibrate(model, recipes.RECIPES[name], SEQUENCES)
        assert list(found) == folding.activation_names(model.config)


def test_sequences_are_cut_at_the_length_that_covers_them():
    sequences = [[2] * n for n in range(1, 31)]
    rows = samples.Rows([Example("text", None, "a")] * 30, sequences)
    chosen, length = calibrate.choose_sequences(rows, limit=64, max_length=0, count=10, seed=1)
    assert length == 32
    assert len(chosen) == 10
    chosen, length = calibrate.choose_sequences(rows, limit=64, max_length=5, count=30, seed=1)
    assert (length, max(map(len, chosen)), len(chosen)) == (5, 5, 30)


def test_a_recipe_is_chosen_by_what_the_model_learnt():
    assert recipes.choose(None, None, "run").name == "mse"
    assert recipes.choose(None, 8, "run").name == "qat"
    assert recipes.choose(None, 4, "run").name == "qat4"
    assert recipes.choose("minmax", 8, "run").name == "minmax"
    assert recipes.choose("minmax", 4, "run").name == "minmax"
    for name, bits in (("qat", 4), ("qat16", 4), ("qat4", 8)):
        with pytest.raises(errors.OptionError, match=f"fine-tuned with {bits}; take another"):
            recipes.choose(name, bits, "run")
    with pytest.raises(errors.OptionError, match="run: recipe 'qat16' needs a model"):
        recipes.choose("qat16", None, "run")
    with pytest.raises(errors.OptionError, match="no recipe 'mse16'; there are"):
        recipes.choose("mse16", None, "run")
    assert recipes.RECIPES["qat16"].to_dict() == {
        **dataclasses.asdict(recipes.RECIPES["qat16"]),
        "int16": ["norm", "attention", "branch"],
    }
