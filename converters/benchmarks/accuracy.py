"""Measures several runs that differ in their seed, in every form, and prints medians.

For each run: fp32 and QAT in Keras; the portable int8 graph on the real TFLM after QAT and without
QAT (recipe mse); what TFLiteConverter makes by itself, on TFLM, as the rival; the fused kernels'
arithmetic; and how often their labels agree.

Example:
  python -m converters.benchmarks.accuracy --runs='build/snips-*' --calibration=train.csv \
      --test=test.csv --task=snips --json=zoo/seeds.json
"""

import glob
import json
import pathlib
import sys
import tempfile

from absl import app, flags

from calibration import samples
from converters import commands
from converters.evaluation import evaluation, labelled_rows
from converters.kernels import params, recognize
from converters.tflite import model_folder
from converters.zoo import layout, seed_results
from embbert_tf import errors
from embbert_tf.data import encoding, files
from embbert_tf.storage import run_folder

_RUNS = flags.DEFINE_list("runs", None, "Run folders; patterns such as 'build/snips-*' too.")
_TEST = flags.DEFINE_string("test", None, "CSV to measure on.")
_CALIBRATION = flags.DEFINE_string(
    "calibration", None, "CSV to draw representative samples from (training data)."
)
_VALID = flags.DEFINE_string(
    "valid", None, "CSV that decides the length; default the rows that each run held out."
)
_MAX_LENGTH = flags.DEFINE_integer(
    "max_length", 0, "Tokens of the graphs; 0: what 99.5 % of the validation texts need.", 0
)
_RECIPE = flags.DEFINE_string("recipe", "qat", "Recipe of the int8 graph after QAT.")
_VARIANTS = flags.DEFINE_list(
    "variants", list(seed_results.VARIANTS), "What to measure, of: fp32,qat,int8,mse,plain,fused."
)
_LIMIT = flags.DEFINE_integer(
    "limit", 0, "Take a seeded sample of this many rows; 0 takes all.", lower_bound=0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the sample.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes for TFLM; 0: one a core.", lower_bound=0)
_MODELS = flags.DEFINE_string("models", None, "Folder to keep the .tflite files in.")
_TASK = flags.DEFINE_string(
    "task", None, "Name of the task; default the name of the folder that --test is in."
)
_JSON = flags.DEFINE_string("json", None, "Also put the results into this file, under --task.")


def find_runs(patterns: list[str]) -> list[pathlib.Path]:
    """Returns the run folders that the patterns match, sorted.

    Raises:
      RunError: A pattern matches none, or something else.
    """
    found = set()
    for pattern in patterns:
        matches = [pathlib.Path(match) for match in glob.glob(pattern)]
        if not matches:
            raise errors.RunError(f"--runs={pattern}: no such folder")
        found |= set(matches)
    for path in found:
        run_folder.read_settings(path)
    return sorted(found)


def names_of(runs: list[pathlib.Path]) -> list[str]:
    """Returns the folders' names, with their parents' where that is needed to tell them apart."""
    names = [path.name for path in runs]
    if len(set(names)) < len(runs):
        names = ["/".join(path.resolve().parts[-2:]) for path in runs]
    return names


def _length(path: pathlib.Path) -> int:
    """Tokens that cover a run's validation texts."""
    run = run_folder.load_run(path)
    examples = labelled_rows.read_sample(evaluation.validation_csv(run.path, _VALID.value))
    limit = run.config.max_length
    sequences = encoding.encode_all(run.tokenizer, examples, run.pair, limit)
    return samples.covering_length([len(ids) for ids in sequences], limit)


def _convert(run: run_folder.Run, recipe: str, length: int, models: pathlib.Path) -> bytes:
    """Returns a `.tflite` made by the command that a user would run; recipe "plain": the rival."""
    folder = models / recipe
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / model_folder.TFLITE
    arguments = [
        f"--run={run.path}",
        f"--calibration={_CALIBRATION.value}",
        f"--output={output}",
        f"--max_length={length}",
    ]
    if recipe == "plain":
        commands.run("converters.benchmarks.plain_conversion", *arguments)
    else:
        commands.run("converters.convert_tflite", *arguments, f"--recipe={recipe}")
    return output.read_bytes()


def measure(path: pathlib.Path, name: str, length: int, models: pathlib.Path) -> dict:
    """Measures one run.

    Args:
      path: The run folder.
      name: What to call it.
      length: Tokens of the int8 graphs.
      models: Folder for the `.tflite` files.

    Returns:
      An entry of `runs` in `converters/zoo/seed_results.py`.

    Raises:
      RunError, DataError, CommandError: As its steps do.
    """
    run = run_folder.load_run(path)
    wanted = set(_VARIANTS.value)
    examples = labelled_rows.read_sample(_TEST.value, _LIMIT.value, _SEED.value)
    rows = evaluation.Evaluation(run, examples, _TEST.value, name, _WORKERS.value)
    training = run_folder.read_settings(path).get("training", {})
    logits = {}
    if "fp32" in wanted:
        logits["fp32"] = rows.keras(run.model)
    if run.qat_model is None:
        if wanted & {"qat", "int8", "fused"}:
            print(f"{path}: no QAT, so no qat, int8 and fused", file=sys.stderr)
        wanted -= {"qat", "int8", "fused"}
    if "qat" in wanted:
        logits["qat"] = rows.keras(run.qat_model)
    if wanted & {"int8", "fused"}:
        tflite = _convert(run, _RECIPE.value, length, models)
        if "int8" in wanted:
            logits["int8"] = rows.tflm(tflite, length, "int8")
        if "fused" in wanted:
            try:
                logits["fused"] = rows.fused(tflite, length)
            except (params.KernelParamsError, recognize.NotEmbBertError) as error:
                print(f"{path}: no fused kernels: {error}", file=sys.stderr)
    for variant in ("mse", "plain"):
        if variant in wanted:
            tflite = _convert(run, variant, length, models)
            logits[variant] = rows.tflm(tflite, length, seed_results.VARIANTS[variant])
    result = {"run": name, "seed": training.get("seed")}
    result |= {variant: rows.metrics(found) for variant, found in logits.items()}
    result["alike"] = {
        other: rows.agreement(logits["int8"], logits[other])
        for other in seed_results.ALIKE
        if "int8" in logits and other in logits
    }
    return result


def _metrics(run: pathlib.Path, task: str) -> list[str]:
    """The metrics that are reported for a task, or for others of its kind."""
    if task in layout.TASKS:
        return list(layout.TASKS[task].metrics)
    kind = run_folder.read_settings(run).get("task")
    return ["pearson", "spearman"] if kind == "regression" else ["accuracy"]


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    unknown = [name for name in _VARIANTS.value if name not in seed_results.VARIANTS]
    if unknown:
        raise app.UsageError(
            f"--variants: unknown {', '.join(unknown)}; it knows {', '.join(seed_results.VARIANTS)}"
        )
    task = _TASK.value or pathlib.Path(_TEST.value).resolve().parent.name
    try:
        runs = find_runs(_RUNS.value)
        # One length for all, the longest: seeds that hold out other rows may differ by a few.
        length = _MAX_LENGTH.value or max(_length(path) for path in runs)
        entry = {
            "test": pathlib.Path(_TEST.value).name,
            "test_sha256": files.sha256(_TEST.value),
            "count": len(labelled_rows.read_sample(_TEST.value, _LIMIT.value, _SEED.value)),
            "drawn": labelled_rows.is_drawn(_TEST.value, _LIMIT.value),
            "max_length": length,
            "recipe": _RECIPE.value,
            "metrics": _metrics(runs[0], task),
            "runs": [],
        }
        with tempfile.TemporaryDirectory() as scratch:
            models = pathlib.Path(_MODELS.value or scratch)
            for path, name in zip(runs, names_of(runs), strict=True):
                entry["runs"].append(measure(path, name, length, models / name))
                print(json.dumps(entry["runs"][-1]), flush=True)
        name = seed_results.name_of(task, _RECIPE.value)
        print("\n".join(seed_results.table({name: entry})))
        if _JSON.value:
            seed_results.update(_JSON.value, name, entry)
    except (
        errors.RunError,
        errors.DataError,
        commands.CommandError,
        seed_results.SeedResultsError,
        OSError,
    ) as error:
        sys.exit(f"benchmark_accuracy: {error}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["runs", "test", "calibration"])
    app.run(main)
