"""Results of several runs that differ in their seed: a JSON file of them, and their medians.

The file is an object by task (with another int8 recipe than `qat`, by task and recipe: "snips,
qat16"); each value has

| key | meaning |
| --- | --- |
| `test`, `test_sha256` | name and hash of the CSV file |
| `count`, `drawn` | rows, and whether others of the file were left out |
| `max_length` | tokens of the int8 graphs |
| `recipe` | of the int8 graph after QAT |
| `metrics` | names of the metrics |
| `runs` | for each run its name, its seed, a metric to value object for each of `VARIANTS`, and `alike` |
"""  # noqa: E501

import pathlib
import statistics
from typing import Any

from embbert_tf import errors
from embbert_tf.data import files

FILE = "seeds.json"
VARIANTS = {
    "fp32": "fp32",
    "qat": "QAT",
    "int8": "int8 on TFLM",
    "mse": "int8 without QAT",
    "plain": "plain TFLiteConverter",
    "fused": "fused kernels",
}
ALIKE = {"fused": "labels alike, portable and fused", "fp32": "labels alike, portable and fp32"}


class SeedResultsError(errors.EmbBertError):
    """A file that does not hold such results; the message says what is wrong."""


def name_of(task: str, recipe: str) -> str:
    """Returns the name of a task's results with a recipe of `calibration/recipes.py`."""
    return task if recipe == "qat" else f"{task}, {recipe}"


def read(path: files.PathLike) -> dict[str, Any]:
    """Reads the file.

    Raises:
        SeedResultsError: It is missing, or something is missing in it.
    """
    try:
        results = files.read_json(path)
    except errors.RunError as error:
        raise SeedResultsError(str(error)) from error
    for task, entry in results.items():
        for key in ("test", "count", "drawn", "max_length", "metrics", "runs"):
            if not isinstance(entry, dict) or key not in entry:
                raise SeedResultsError(f"{path}: '{key}' of '{task}' is missing; measure it again")
    return results


def update(path: files.PathLike, name: str, entry: dict[str, Any]) -> None:
    """Puts the results that `name_of` names into the file, atomically; keeps the others."""
    path = pathlib.Path(path)
    results = read(path) if path.exists() else {}
    results[name] = entry
    files.write_json(path, dict(sorted(results.items())))


def values(entry: dict[str, Any], variant: str, metric: str) -> list[float] | None:
    """Returns a metric of every run, or None unless all have it.

    Args:
        entry: One task's results.
        variant: Key of `VARIANTS`, "alike_" and a key of `ALIKE`, or "loss" for int8 less fp32.
        metric: One of the entry's metrics; no matter for "alike_".
    """
    found = []
    for run in entry["runs"]:
        if variant == "loss":
            one, other = run.get("int8"), run.get("fp32")
            value = None if one is None or other is None else one[metric] - other[metric]
        elif variant.startswith("alike_"):
            value = run.get("alike", {}).get(variant.removeprefix("alike_"))
        else:
            value = (run.get(variant) or {}).get(metric)
        if value is None:
            return None
        found.append(value)
    return found or None


def cell(found: list[float] | None, signed: bool = False) -> str:
    """Returns "median [least..most]" in per cent, or nothing."""
    if found is None:
        return ""
    form = "+.2f" if signed else ".2f"
    middle, least, most = (
        format(100 * value, form) for value in (statistics.median(found), min(found), max(found))
    )
    return f"{middle} [{least}..{most}]"


def table(results: dict[str, Any]) -> list[str]:
    """Returns the lines of a Markdown table: a line a task and metric."""
    columns = [
        *VARIANTS.items(),
        ("loss", "int8 less fp32"),
        *((f"alike_{key}", title) for key, title in ALIKE.items()),
    ]
    lines = [
        "| task | rows | metric | runs | S | " + " | ".join(title for _, title in columns) + " |",
        "| --- | --- | --- | ---: | ---: |" + " ---: |" * len(columns),
    ]
    for task, entry in results.items():
        rows = f"{entry['test']}, {entry['count']:,}"
        if entry["drawn"]:
            rows += " drawn"
        for metric in entry["metrics"]:
            cells = [
                cell(values(entry, variant, metric), signed=variant == "loss")
                for variant, _ in columns
            ]
            head = [task, rows, metric, str(len(entry["runs"])), str(entry["max_length"])]
            lines.append("| " + " | ".join([*head, *cells]) + " |")
    lines += [
        "",
        "Median [least..most] of the runs, which differ in their seed, as "
        "`python -m converters.benchmarks.accuracy` measured them. In per cent; correlations times "
        "100. `int8 without QAT`: recipe mse; `fused kernels`: of the int8 graph after QAT, as is "
        "`portable`. With a recipe behind the task's name, that is the int8 graph's "
        "(`docs/portable_graph.md`); `as qat4` is int8 trained as qat4's rows were, from the same "
        "fp32 weights. For a regression `labels alike` is Pearson's correlation of the two "
        "answers.",
    ]
    return lines
