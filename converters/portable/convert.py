"""Conversion of a trained model to a full-int8 `.tflite` for TFLM."""

import dataclasses
import hashlib
import importlib.metadata
import warnings
from typing import Any

from calibration import calibrate, recipes, samples
from converters.evaluation import evaluation, labelled_rows, shots
from converters.evaluation.model import Model
from converters.kernels import selective_scan
from converters.portable import baseline_graph, graph
from converters.portable.options import ConvertOptions
from converters.tflite import checks, writer
from embbert_tf import errors
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.data import encoding
from embbert_tf.data import examples as examples_lib
from embbert_tf.data.files import PathLike
from embbert_tf.quantization import folding
from embbert_tf.quantization import ranges as ranges_lib
from embbert_tf.storage import run_folder

AnyGraph = graph.PortableGraph | baseline_graph.BaselineGraph

_PACKAGES = ("embbert-tflm", "tensorflow", "tf_keras", "tokenizers", "tflite-micro")


def convert(
    run: run_folder.Run | PathLike,
    *,
    calibration: PathLike,
    validation: PathLike | None = None,
    recipe: str | None = None,
    options: ConvertOptions = ConvertOptions(),  # noqa: B008 (frozen)
) -> Model:
    """Converts a trained run.

    Example:
    ```python
    import converters

    model = converters.convert("build/run", calibration="train.csv", recipe="qat")
    model.save("build/model")
    ```

    Args:
        run: A run, or its folder.
        calibration: CSV to draw representative samples from: training data.
        validation: CSV to choose the confidence threshold on, below which an answer is called
            unsure: it keeps 99 % of the right answers. Of an encoder it keeps 90 % of the texts,
            where the labels are taught by sentences of `calibration`. Without it it is 0.
        recipe: A name of `calibration.recipes.RECIPES`; by default "qat" after quantization-aware
            training ("qat4" if of 4 bits), else "mse".
        options: Length of the graph, samples, placement in the arena.

    Returns:
        The model; nothing is written before its `save`.

    Raises:
        OptionError: The recipe or the length does not suit the run.
        RunError: The run cannot be read.
        DataError: A CSV file cannot be used.
        RangeError: A range is missing or infinite, as after a training that diverged.

    Warns:
        CalibrationWarning: The calibration file lacks what texts on the device will have.
    """
    # All input is read and checked before the long work, the quickest first.
    examples = labelled_rows.read_sample(calibration)
    rows = labelled_rows.read_sample(validation) if validation is not None else []
    if not isinstance(run, run_folder.Run):
        run = run_folder.load_run(run)
    chosen = _recipe(recipe, run.config, run.qat_model, run.path, options.npu)
    _check_length(options.max_length, run.config.max_length, run.pair)
    if validation is not None:
        labelled_rows.check_pairs(rows, run.pair, validation)
        if run.task != "encoder":
            encoding.targets_of(rows, run.labels, validation)
    built, max_length = _build(run, examples, chosen, options)
    tflite = _tflite(built)
    settings = _settings(run, chosen, built, tflite, max_length, options)
    text = _tokenizer_json(run)
    model = Model(None, tflite, run.tokenizer, run.labels, settings, text)
    if validation is None or run.task == "regression":
        return model
    threshold = _threshold(run, model, calibration, validation)
    return dataclasses.replace(model, settings={**settings, "confidence_threshold": threshold})


def _threshold(
    run: run_folder.Run, model: Model, calibration: PathLike, validation: PathLike
) -> float:
    """Returns the confidence below which an answer is called unsure."""
    if run.task == "encoder":
        return shots.threshold(model, calibration, validation)
    return evaluation.confidence_threshold(model, validation)


def convert_keras(
    model: Any,
    max_length: int = 64,
    *,
    representative_ids: Any = None,
    pair: bool = False,
    recipe: str | None = None,
    memory_plan: str = "offline",
    npu: str = "",
) -> bytes:
    """Converts a Keras model: no run folder and no tokenizer is needed.

    Example:
    ```python
    import converters
    import embbert_tf

    classifier = embbert_tf.EmbBertClassifier.from_preset("nano", num_labels=2)
    quantized = embbert_tf.quantize(classifier, [[2, 10, 20], [2, 30, 20, 40]])
    tflite = converters.convert_keras(quantized, max_length=32)
    ```

    Args:
        model: A `QuantizedClassifier`, whose learnt ranges are taken, or an `EmbBertClassifier`,
            whose ranges are measured on `representative_ids`.
        max_length: Tokens of the graph's input, at most the model's.
        representative_ids: Token ids of a few hundred texts, as for `embbert_tf.quantize`. A
            `QuantizedClassifier` does without; with them, its ranges of scores and logits are
            widened to what these texts cause.
        pair: Whether the graph takes segment ids as a second input.
        recipe: As for `convert`.
        memory_plan: As in `ConvertOptions`.
        npu: As in `ConvertOptions`.

    Returns:
        The `.tflite`: input int32 (1, max_length) token ids, with `pair` another one of segment
        ids; output int8 (1, num_labels) logits.

    Raises:
        OptionError: The model is none of these two, or an argument does not suit it.
        DataError: The ids are none that the model can read.
        RangeError: A range is missing or infinite, as after a training that diverged.
    """
    classifier, quantized = split_model(model)
    chosen = _recipe(recipe, classifier.config, quantized, model.name, npu)
    options = ConvertOptions(max_length=max_length, memory_plan=memory_plan, npu=npu)
    if max_length < 1:
        raise errors.OptionError(f"max_length must be at least 1, not {max_length}")
    _check_length(max_length, classifier.config.max_length, pair)
    folded = _float_model(quantized if chosen.qat_weights else classifier)
    ranges: Any = quantized.ranges() if quantized is not None else None
    if representative_ids is not None:
        texts = ranges_lib.sequences_of(representative_ids, classifier.config)
        ranges = calibrate.calibrate(folded, chosen, [ids[:max_length] for ids in texts], ranges)
    elif chosen.ranges != "qat":
        raise errors.OptionError(
            f"recipe '{chosen.name}' measures ranges; give representative_ids, the token ids of a "
            "few hundred texts"
        )
    return _tflite(_graph(folded, ranges, max_length, pair, chosen, options))


def split_model(model: Any) -> tuple[Any, Any]:
    """Returns (fp32 classifier, quantized one or None) of either kind of Keras model.

    Raises:
        OptionError: It is another kind of model.
    """
    from embbert_tf.baselines.classifier import BaselineClassifier
    from embbert_tf.baselines.quantized_baseline import QuantizedBaseline
    from embbert_tf.model.classifier import EmbBertClassifier
    from embbert_tf.quantization.quantized_classifier import QuantizedClassifier

    if isinstance(model, QuantizedClassifier | QuantizedBaseline):
        return model.classifier, model
    if isinstance(model, EmbBertClassifier | BaselineClassifier):
        return model, None
    raise errors.OptionError(
        f"a {type(model).__name__} cannot be converted; EmbBertClassifier, QuantizedClassifier and "
        "the compared models of embbert_tf.baselines can"
    )


def _recipe(name: str | None, config: Any, quantized: Any, source: Any, npu: str) -> recipes.Recipe:
    """Returns the recipe of a name or by default; OptionError if it does not suit model or NPU."""
    bits = None if quantized is None else quantized.weight_bits
    chosen = recipes.choose(name, bits, source)
    if npu and chosen.int16:
        raise errors.OptionError(
            f"npu '{npu}' goes with recipes of int8 alone, not with '{chosen.name}'"
        )
    _check_compared(config, chosen, npu)
    return chosen


def _check_length(max_length: int, limit: int, pair: bool) -> None:
    """Raises OptionError unless a graph of `max_length` tokens (0: to be chosen) suits a model."""
    least = 2 if pair else 1
    if max_length and not least <= max_length <= limit:
        raise errors.OptionError(
            f"max_length {max_length} is not within {least}..{limit}, the positions that the model "
            "was trained with"
        )


def _build(
    run: run_folder.Run,
    examples: list[examples_lib.Example],
    recipe: recipes.Recipe,
    options: ConvertOptions,
) -> tuple[AnyGraph, int]:
    """Calibrates a run and returns its graph and the length of the graph."""
    limit = run.config.max_length
    rows = samples.Rows(examples, encoding.encode_all(run.tokenizer, examples, run.pair, limit))
    for sentence in samples.shortcomings(
        rows,
        None if run.task == "encoder" else run.labels,
        run.pair,
        options.max_length,
        options.count,
        _held_out(run),
    ):
        warnings.warn(sentence, recipes.CalibrationWarning, stacklevel=3)
    chosen, max_length = calibrate.choose_sequences(
        rows, limit, options.max_length, options.count, options.seed
    )
    folded = _float_model(run.qat_model if recipe.qat_weights else run.model)
    ranges = calibrate.calibrate(folded, recipe, chosen, run.ranges)
    return _graph(folded, ranges, max_length, run.pair, recipe, options), max_length


def _check_compared(config: Any, recipe: recipes.Recipe, npu: str) -> None:
    """Raises OptionError where a compared model is asked for what EmbBERT alone has."""
    if not isinstance(config, BaselineConfig):
        return
    from embbert_tf.baselines import quantized_baseline

    quantized_baseline.check_convertible(config)
    if recipe.int16 or npu:
        raise errors.OptionError(
            f"{config.what} is converted to int8 alone and for no NPU: take the recipe qat, mse "
            "or minmax, and leave npu away"
        )


def _float_model(model: Any) -> Any:
    """Returns the float weights of a Keras model: folded, or of a compared model the classifier."""
    if isinstance(model.config, BaselineConfig):
        return getattr(model, "classifier", model)
    return folding.fold(model)


def _graph(
    folded: Any,
    ranges: calibrate.Ranges,
    max_length: int,
    pair: bool,
    recipe: recipes.Recipe,
    options: ConvertOptions,
) -> AnyGraph:
    if not isinstance(folded, folding.FoldedModel):
        offline = options.memory_plan == "offline"
        return baseline_graph.BaselineGraph(folded, ranges, max_length, pair, offline)
    return graph.PortableGraph(
        folded,
        ranges,
        max_length,
        pair=pair,
        per_channel=None,  # the measured error decides
        offline=options.memory_plan == "offline",
        int16=frozenset(recipe.int16),
        npu=options.npu,
    )


def _tflite(built: AnyGraph) -> bytes:
    checks.check_full_int8(built.graph)
    checks.check_builtin(built.graph, (selective_scan.OPERATOR,))
    return writer.write(built.graph)


def _held_out(run: run_folder.Run) -> samples.Rows | None:
    """Returns the rows that training held out, or None where the run has none any more."""
    path = run.path / examples_lib.VALID_CSV
    if not path.exists():
        return None
    examples = list(examples_lib.read_examples(path))
    return samples.Rows(
        examples, encoding.encode_all(run.tokenizer, examples, run.pair, run.config.max_length)
    )


def _tokenizer_json(run: run_folder.Run) -> str:
    """Returns the run's `tokenizer.json` to the byte; "" where the run has no folder."""
    path = run.path / run_folder.TOKENIZER
    return path.read_bytes().decode("utf-8") if path.is_file() else ""


def _inputs(run: run_folder.Run, max_length: int) -> list[dict]:
    """Describes the graph's inputs for `model.json`."""
    ids = {
        "name": "ids",
        "shape": [1, max_length],
        "type": "int32",
        "meaning": "token ids: [CLS]=2, the text's tokens, then [PAD]=0; every id must be "
        f"within 0..{run.config.vocab_size - 1}",
    }
    segments = {
        "name": "segment_ids",
        "shape": [1, max_length],
        "type": "int32",
        "meaning": "0 at [PAD], 1 before the first [SEP], 2 from it on",
    }
    return [ids, segments] if run.pair else [ids]


def _settings(
    run: run_folder.Run,
    recipe: recipes.Recipe,
    built: AnyGraph,
    tflite: bytes,
    max_length: int,
    options: ConvertOptions,
) -> dict:
    """Returns the content of `model.json`."""
    logits = built.graph.outputs[0]
    return {
        "generator": "converters/convert_tflite.py",
        "task": run.task,
        "pair": run.pair,
        "max_length": max_length,
        "inputs": _inputs(run, max_length),
        "output": {
            "name": "logits",
            "shape": list(logits.shape),
            "type": "int8",
            "scale": float(logits.scale),
            "zero_point": int(logits.zero_point),
        },
        "config": run.config.to_dict(),
        "recipe": recipe.to_dict(),
        "memory_plan": options.memory_plan,
        "npu": options.npu,
        "schedule": built.describe_schedule(),
        "weights": built.describe_weights(),
        "confidence_threshold": 0.0,
        "sha256": hashlib.sha256(tflite).hexdigest(),
        "metrics": run.metrics,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
