"""Converts a trained run to a full-int8 `.tflite` for TFLM, in a model folder.

The folder of `--output` receives `model.tflite`, `tokenizer.json`, `labels.txt` and `model.json`
(see `converters/tflite/model_folder.py`).

Example:
  python converters/convert_tflite.py --run=build/demo/run --calibration=train.csv \
      --output=build/demo/model/model.tflite --max_length=32

The recipe says where ranges come from (`calibration/recipes.py`): `qat` takes those that
quantization-aware training learnt, the others measure them on a sample of --calibration.
"""

import hashlib
import importlib.metadata
import pathlib
import shutil
import sys

import numpy as np
from absl import app, flags

from calibration import recipes, samples
from converters.evaluation import labelled_rows
from converters.portable import graph
from converters.tflite import checks, model_folder, quantize, writer
from converters.tflm import runner
from embbert_tf import errors
from embbert_tf.data import encoding, files
from embbert_tf.data import examples as examples_lib
from embbert_tf.quantization import folding
from embbert_tf.quantization import ranges as ranges_lib
from embbert_tf.storage import run_folder

_RUN = flags.DEFINE_string("run", None, "Run folder that training wrote.", required=True)
_CALIBRATION = flags.DEFINE_string(
    "calibration", None, "CSV to draw representative samples from (training data).", required=True
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The .tflite to write; its folder becomes the model folder.", required=True
)
_MAX_LENGTH = flags.DEFINE_integer(
    "max_length", 0, "Tokens of the graph's input; 0: what 99.5 % of the calibration texts need."
)
_COUNT = flags.DEFINE_integer("count", 256, "Calibration samples.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the samples.")
_RECIPE = flags.DEFINE_enum(
    "recipe", None, list(recipes.RECIPES), "Quantization scheme; default qat after QAT, else mse."
)
_VALIDATION = flags.DEFINE_string(
    "validation",
    None,
    "CSV to choose the confidence threshold on: it keeps 99 % of the right answers.",
)
_PLAN = flags.DEFINE_enum(
    "memory_plan",
    "offline",
    ["offline", "greedy"],
    "Who places tensors in the arena: this converter, in the file's metadata, or TFLM's planner.",
)
_KEPT_RIGHT_ANSWERS = 0.99


def _settings(run, recipe, built, tflite: bytes, max_length: int) -> dict:
    inputs = [
        {
            "name": "ids",
            "shape": [1, max_length],
            "type": "int32",
            "meaning": "token ids: [CLS]=2, the text's tokens, then [PAD]=0; every id must be "
            f"within 0..{run.config.vocab_size - 1}",
        }
    ]
    if run.pair:
        inputs.append(
            {
                "name": "segment_ids",
                "shape": [1, max_length],
                "type": "int32",
                "meaning": "0 at [PAD], 1 before the first [SEP], 2 from it on",
            }
        )
    logits = built.graph.outputs[0]
    return {
        "generator": "converters/convert_tflite.py",
        "task": run.task,
        "pair": run.pair,
        "max_length": max_length,
        "inputs": inputs,
        "output": {
            "name": "logits",
            "shape": list(logits.shape),
            "type": "int8",
            "scale": float(logits.scale),
            "zero_point": int(logits.zero_point),
        },
        "config": run.config.to_dict(),
        "recipe": recipe.to_dict(),
        "memory_plan": _PLAN.value,
        "schedule": built.schedule.describe(),
        "weights": built.describe_weights(),
        "confidence_threshold": 0.0,
        "sha256": hashlib.sha256(tflite).hexdigest(),
        "metrics": run.metrics,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("embbert-tflm", "tensorflow", "tf_keras", "tokenizers", "tflite-micro")
        },
    }


def confidence_threshold(folder: model_folder.ModelFolder, path: str) -> float:
    """Returns the confidence below which an answer is called unsure.

    It is the one that keeps 99 % of the right answers on validation data.

    Args:
      folder: The converted model.
      path: Validation CSV.
    """
    sequences, targets = labelled_rows.read_rows(folder, path)
    logits = runner.run_all(folder, sequences).astype(np.float64)
    scaled = logits * folder.settings["output"]["scale"]
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    confidence = weights.max(axis=1) / weights.sum(axis=1)
    right = logits.argmax(axis=1) == np.asarray(targets)
    if not right.any():
        return 0.0
    return float(np.quantile(confidence[right], 1 - _KEPT_RIGHT_ANSWERS))


def _validation(run) -> samples.Rows | None:
    """Returns the rows that training held out, or None where the run has none any more."""
    path = run.path / examples_lib.VALID_CSV
    if not path.exists():
        return None
    examples = list(examples_lib.read_examples(path))
    return samples.Rows(
        examples, encoding.encode_all(run.tokenizer, examples, run.pair, run.config.max_length)
    )


def convert(run, examples: list[examples_lib.Example], recipe: recipes.Recipe, max_length: int):
    """Builds the portable graph of a run.

    Args:
      run: From `embbert_tf.storage.run_folder.load_run`.
      examples: Data to calibrate on.
      recipe: Quantization scheme.
      max_length: Tokens of the graph, or 0 to cover 99.5 % of the examples.

    Returns:
      The `PortableGraph` and its length.

    Raises:
      ValueError: The recipe needs QAT ranges that the run does not have, or a bad length.
    """
    if recipe.qat_weights and run.ranges is None:
        raise ValueError(
            f"{run.path}: recipe '{recipe.name}' needs a run that was fine-tuned with quantization "
            "(`python -m embbert_tf.qat`); or take --recipe=mse"
        )
    limit = run.config.max_length
    sequences = encoding.encode_all(run.tokenizer, examples, run.pair, limit)
    for sentence in samples.shortcomings(
        samples.Rows(examples, sequences),
        run.labels,
        run.pair,
        max_length,
        _COUNT.value,
        _validation(run),
    ):
        print(f"convert_tflite: warning: {sentence}", file=sys.stderr)
    lengths = [len(ids) for ids in sequences]
    max_length = max_length or samples.covering_length(lengths, limit)
    chosen = samples.pick(examples, lengths, _COUNT.value, _SEED.value)
    folded = folding.fold(run.qat_model if recipe.qat_weights else run.model)
    meter = ranges_lib.RangeMeter(folded)
    for index in chosen:
        meter.run(sequences[index][:max_length])
    if recipe.ranges == "qat":
        ranges = dict(run.ranges)
        for name in ranges:
            if name.startswith("scores"):
                ranges[name] = (meter.score_floor(name), ranges[name][1])
        # Training pulls the range of the logits together as it goes; two clipped logits would tie.
        # Of a row's scale, its largest matters most: see `embbert_tf.quantization.ranges`.
        seen = meter.ranges("minmax")
        wide = ranges_lib.NEVER_CUT if recipe.int16 else ("logits",)
        for name, (low, high) in ranges.items():
            if folding.kind(name) in wide:
                ranges[name] = (min(seen[name][0], low), max(seen[name][1], high))
    else:
        ranges = meter.ranges(recipe.ranges)
    built = graph.PortableGraph(
        folded,
        ranges,
        max_length,
        pair=run.pair,
        per_channel=None,  # the measured error decides
        offline=_PLAN.value == "offline",
        int16=frozenset(recipe.int16),
    )
    return built, max_length


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        run = run_folder.load_run(_RUN.value)
        examples = list(examples_lib.read_examples(_CALIBRATION.value))
        if not examples:
            raise errors.DataError(f"{_CALIBRATION.value}: no rows to calibrate on")
        name = _RECIPE.value or ("qat" if run.ranges is not None else "mse")
        recipe = recipes.RECIPES[name]
        built, max_length = convert(run, examples, recipe, _MAX_LENGTH.value)
        checks.check_full_int8(built.graph)
        checks.check_builtin(built.graph)
        tflite = writer.write(built.graph)

        output = pathlib.Path(_OUTPUT.value)
        if output.name != model_folder.TFLITE:
            raise ValueError(f"--output={output}: the file's name must be {model_folder.TFLITE}")
        output.parent.mkdir(parents=True, exist_ok=True)
        settings = _settings(run, recipe, built, tflite, max_length)
        folder = model_folder.ModelFolder(
            output.parent, tflite, run.tokenizer, run.labels, settings
        )
        if _VALIDATION.value and run.task == "classification":
            settings["confidence_threshold"] = confidence_threshold(folder, _VALIDATION.value)
        # model.json first loses its validity, then regains it last: no mix of two models passes.
        files.write_atomic(output, lambda path: path.write_bytes(tflite))
        files.write_atomic(
            output.parent / model_folder.TOKENIZER,
            lambda path: shutil.copyfile(run.path / run_folder.TOKENIZER, path),
        )
        run_folder.write_labels(output.parent / model_folder.LABELS, run.labels)
        files.write_json(output.parent / model_folder.SETTINGS, settings)
    except (
        errors.RunError,
        errors.DataError,
        quantize.RangeError,
        checks.UnsupportedGraphError,
        ValueError,
        OSError,
    ) as error:
        sys.exit(f"convert_tflite: {error}")
    print(built.schedule.describe())
    if built.weight_snr:
        print(f"weights: {built.describe_weights()}")
    print(f"recipe {recipe.name}; {len(tflite)} bytes -> {output}")


if __name__ == "__main__":
    app.run(main)
