"""Measures the activation ranges of a folded model on a few representative texts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from calibration import samples
from calibration.recipes import Recipe
from embbert_tf.quantization import folding
from embbert_tf.quantization import ranges as ranges_lib

Ranges = dict[str, tuple[float, float]]


def choose_sequences(
    rows: samples.Rows, limit: int, max_length: int, count: int, seed: int
) -> tuple[list[list[int]], int]:
    """Picks the sequences to measure on, and the length of the graph where none is given.

    Args:
        rows: All rows of the calibration file, their ids cut at `limit`.
        limit: Tokens that the model can read at most.
        max_length: Tokens of the graph's input; 0 for the length that covers 99.5 % of the rows.
        count: Sequences wanted.
        seed: Of the sample.

    Returns:
        Token ids of the sample, cut at the length of the graph, and that length.
    """
    lengths = [len(ids) for ids in rows.sequences]
    max_length = max_length or samples.covering_length(lengths, limit)
    chosen = samples.pick(rows.examples, lengths, count, seed)
    return [rows.sequences[index][:max_length] for index in chosen], max_length


def calibrate(
    folded: Any,
    recipe: Recipe,
    sequences: Iterable[Sequence[int]],
    learnt: Mapping[str, tuple[float, float]] | None = None,
) -> Ranges:
    """Returns the range of every activation under a recipe.

    Example:
    ```python
    import embbert_tf
    from calibration.recipes import RECIPES
    from embbert_tf.quantization import folding

    run = embbert_tf.load_run("build/run")
    sequences = [embbert_tf.encode(run.tokenizer, text) for text in ("start the fan", "stop it")]
    ranges = calibrate(folding.fold(run.model), RECIPES["mse"], sequences)
    ```

    Args:
        folded: The float model whose weights will be quantized: a `FoldedModel`, or a
            `BaselineClassifier`.
        recipe: Says where ranges come from.
        sequences: Token ids of each text, without padding; at least one.
        learnt: Ranges that quantization-aware training learnt; needed by recipes that take them.

    Returns:
        Activation name of `folding.activation_names` to (low, high), in the float model's unit.

    Raises:
        ValueError: There is no sequence, or `learnt` is missing though the recipe takes it.
    """
    meter = _meter(folded)
    for ids in sequences:
        meter.run(ids)
    if recipe.ranges != "qat":
        return meter.ranges(recipe.ranges)
    if learnt is None:
        raise ValueError(f"recipe '{recipe.name}' takes learnt ranges, and there are none")
    result = dict(learnt)
    for name in result:
        if name.startswith("scores"):
            result[name] = (meter.score_floor(name), result[name][1])
    # Training pulls the range of the logits together as it goes; two clipped logits would tie.
    # Of a row's scale, its largest matters most: see `embbert_tf.quantization.ranges`.
    seen = meter.ranges("minmax")
    wide = ranges_lib.NEVER_CUT if recipe.int16 else ("logits",)
    for name, (low, high) in result.items():
        if folding.kind(name) in wide:
            result[name] = (min(seen[name][0], low), max(seen[name][1], high))
    return result


def _meter(model: Any) -> ranges_lib.RangeMeter:
    if isinstance(model, folding.FoldedModel):
        return ranges_lib.RangeMeter(model)
    from embbert_tf.baselines import quantized_baseline

    return quantized_baseline.BaselineMeter(model)
