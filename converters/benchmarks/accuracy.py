"""Measures several runs that differ in their seed, in every form, and prints medians.

For each run: fp32 and QAT in Keras; the portable int8 graph on the real TFLM after QAT and without
QAT (recipe mse); what TFLiteConverter makes by itself, on TFLM, as the rival; the fused kernels'
arithmetic; and how often their labels agree.

Example:
  python -m converters.benchmarks.accuracy --runs='build/snips-*' --calibration=train.csv \
      --test=test.csv --task=snips --json=zoo/seeds.json
"""

import dataclasses
import glob
import json
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np
from absl import app, flags

import converters
from calibration import samples
from converters.benchmarks import plain_conversion
from converters.evaluation import evaluation, labelled_rows
from converters.kernels import fixed_point, recognize
from converters.zoo import layout, seed_results
from embbert_tf import cli, errors
from embbert_tf.data import encoding, files
from embbert_tf.storage import run_folder


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured, of every run.

    Attributes:
        test: CSV to measure on.
        calibration: CSV to draw representative samples from.
        recipe: Of the int8 graph after QAT.
        length: Tokens of the int8 graphs.
        variants: Keys of `seed_results.VARIANTS`.
        limit: Rows to draw; 0 takes all.
        seed: Seed of the draw.
        workers: Processes for TFLM; 0: one a core.
    """

    test: str
    calibration: str
    recipe: str
    length: int
    variants: frozenset[str]
    limit: int
    seed: int
    workers: int


def find_runs(patterns: list[str]) -> list[pathlib.Path]:
    """Returns the run folders that the patterns match, sorted.

    Raises:
        RunError: A pattern matches none, or something else, or an encoder.
    """
    found = set()
    for pattern in patterns:
        matches = [pathlib.Path(match) for match in glob.glob(pattern)]
        if not matches:
            raise errors.RunError(f"--runs={pattern}: no such folder")
        found |= set(matches)
    for path in found:
        if run_folder.read_settings(path).get("task") == "encoder":
            raise errors.RunError(
                f"--runs: {path}: an encoder, which has no labels of its own; "
                "`python -m converters.benchmarks.shots` teaches it some and measures it"
            )
    return sorted(found)


def names_of(runs: list[pathlib.Path]) -> list[str]:
    """Returns the folders' names, with their parents' where that is needed to tell them apart."""
    names = [path.name for path in runs]
    if len(set(names)) < len(runs):
        names = ["/".join(path.resolve().parts[-2:]) for path in runs]
    return names


def _length(path: pathlib.Path, valid: str | None) -> int:
    """Returns the tokens that cover a run's validation texts."""
    run = run_folder.load_run(path)
    examples = labelled_rows.read_sample(evaluation.validation_csv(run.path, valid))
    limit = run.config.max_length
    sequences = encoding.encode_all(run.tokenizer, examples, run.pair, limit)
    return samples.covering_length([len(ids) for ids in sequences], limit)


def _convert(run: run_folder.Run, recipe: str, settings: Settings, models: pathlib.Path) -> bytes:
    """Returns a `.tflite` and keeps it in a folder of its own; recipe "plain": the rival."""
    folder = models / recipe
    if recipe == "plain":
        tflite = plain_conversion.convert_run(run, settings.calibration, settings.length)
        files.write_bytes(files.make_folder(folder) / "model.tflite", tflite)
        return tflite
    options = converters.ConvertOptions(max_length=settings.length)
    model = converters.convert(
        run, calibration=settings.calibration, recipe=recipe, options=options
    )
    return model.save(folder).tflite


def measure(
    path: pathlib.Path, name: str, settings: Settings, models: pathlib.Path
) -> dict[str, Any]:
    """Measures one run.

    Args:
        path: The run folder.
        name: What to call it.
        settings: What to measure.
        models: Folder for the `.tflite` files.

    Returns:
        An entry of `runs` in `converters/zoo/seed_results.py`.

    Raises:
        EmbBertError: As its steps do.
    """
    run = run_folder.load_run(path)
    wanted = set(settings.variants)
    if run.qat_model is None:
        if wanted & {"qat", "int8", "fused"}:
            print(f"{path}: no QAT, so no qat, int8 and fused", file=sys.stderr)
        wanted -= {"qat", "int8", "fused"}
    examples = labelled_rows.read_sample(settings.test, settings.limit, settings.seed)
    rows = evaluation.Evaluation(run, examples, settings.test, name, settings.workers)
    logits = _logits(run, rows, wanted, settings, models)
    training = run_folder.read_settings(path).get("training", {})
    result = {"run": name, "seed": training.get("seed")}
    result |= {variant: rows.metrics(found) for variant, found in logits.items()}
    result["alike"] = {
        other: rows.agreement(logits["int8"], logits[other])
        for other in seed_results.ALIKE
        if "int8" in logits and other in logits
    }
    return result


def _logits(
    run: run_folder.Run,
    rows: evaluation.Evaluation,
    wanted: set[str],
    settings: Settings,
    models: pathlib.Path,
) -> dict[str, np.ndarray]:
    """Returns the logits (count, L) of every wanted form of a run."""
    length = settings.length
    logits = {}
    if "fp32" in wanted:
        logits["fp32"] = rows.keras(run.model)
    if "qat" in wanted:
        logits["qat"] = rows.keras(run.qat_model)
    if wanted & {"int8", "fused"}:
        tflite = _convert(run, settings.recipe, settings, models)
        if "int8" in wanted:
            logits["int8"] = rows.tflm(tflite, length, "int8")
        if "fused" in wanted:
            try:
                logits["fused"] = rows.fused(tflite, length)
            except (fixed_point.KernelParamsError, recognize.NotEmbBertError) as error:
                print(f"{run.path}: no fused kernels: {error}", file=sys.stderr)
    for variant in ("mse", "plain"):
        if variant in wanted:
            tflite = _convert(run, variant, settings, models)
            logits[variant] = rows.tflm(tflite, length, seed_results.VARIANTS[variant])
    return logits


def _metrics(run: pathlib.Path, task: str) -> list[str]:
    """Returns the metrics that are reported for a task, or for others of its kind."""
    if task in layout.TASKS:
        return list(layout.TASKS[task].metrics)
    kind = run_folder.read_settings(run).get("task")
    return ["pearson", "spearman"] if kind == "regression" else ["accuracy"]


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    strings = {
        "test": (None, "CSV to measure on."),
        "calibration": (None, "CSV to draw representative samples from (training data)."),
        "valid": (None, "CSV that decides the length; default the rows that each run held out."),
        "recipe": ("qat", "Recipe of the int8 graph after QAT."),
        "models": (None, "Folder to keep the .tflite files in."),
        "task": (None, "Name of the task; default the name of the folder that --test is in."),
        "json": (None, "Also put the results into this file, under --task."),
    }
    for name, (default, meaning) in strings.items():
        flags.DEFINE_string(name, default, meaning, flag_values=values)
    flags.DEFINE_list(
        "runs", None, "Run folders; patterns such as 'build/snips-*' too.", flag_values=values
    )
    flags.DEFINE_list(
        "variants",
        list(seed_results.VARIANTS),
        f"What to measure, of: {','.join(seed_results.VARIANTS)}.",
        flag_values=values,
    )
    numbers = {
        "max_length": "Tokens of the graphs; 0: what 99.5 % of the validation texts need.",
        "limit": "Take a seeded sample of this many rows; 0 takes all.",
        "seed": "Seed of the sample.",
        "workers": "Processes for TFLM; 0: one a core.",
    }
    for name, meaning in numbers.items():
        flags.DEFINE_integer(name, 0, meaning, lower_bound=0, flag_values=values)
    flags.mark_flags_as_required(["runs", "test", "calibration"], flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Measures, prints and keeps the results."""
    unknown = [name for name in values.variants if name not in seed_results.VARIANTS]
    if unknown:
        raise app.UsageError(
            f"--variants: unknown {', '.join(unknown)}; it knows {', '.join(seed_results.VARIANTS)}"
        )
    task = values.task or pathlib.Path(values.test).resolve().parent.name
    runs = find_runs(values.runs)
    count = len(labelled_rows.read_sample(values.test, values.limit, values.seed))
    settings = Settings(
        test=values.test,
        calibration=values.calibration,
        recipe=values.recipe,
        # One length for all, the longest: seeds that hold out other rows may differ by a few.
        length=values.max_length or max(_length(path, values.valid) for path in runs),
        variants=frozenset(values.variants),
        limit=values.limit,
        seed=values.seed,
        workers=values.workers,
    )
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        models = pathlib.Path(values.models or scratch)
        for path, name in zip(runs, names_of(runs), strict=True):
            found.append(measure(path, name, settings, models / name))
            print(json.dumps(found[-1]), flush=True)
    entry = {
        "test": pathlib.Path(values.test).name,
        "test_sha256": files.sha256(values.test),
        "count": count,
        "drawn": labelled_rows.is_drawn(values.test, values.limit),
        "max_length": settings.length,
        "recipe": values.recipe,
        "metrics": _metrics(runs[0], task),
        "runs": found,
    }
    name = seed_results.name_of(task, values.recipe)
    print("\n".join(seed_results.table({name: entry})))
    if values.json:
        seed_results.update(values.json, name, entry)


if __name__ == "__main__":
    cli.run(define_flags, main)
