"""Measures every model of `zoo/` from its files and prints the table.

For each task: the metric on the test set (or the development set, where the test set's labels are
not public) of the fp32 and the QAT weights in Keras and of `model.tflite` on the real TFLM, beside
the published figures and, for three tasks of GLUE, the constants of the commonest answer and of a
bag of words (`converters/zoo/layout.py`). File and arena are measured anew.

Example:
  python -m converters.zoo.table --data=DATA --markdown=zoo/README.md \
      --json=zoo/table.jsonl

With `--tasks` the other models' rows are those of an earlier `--json`, as long as their
`model.tflite` is the one that was measured then. `--markdown` replaces what stands between the two
marks in that file. Medians of three seeds come from `zoo/seeds.json`, which
`python -m converters.benchmarks.accuracy --json=zoo/seeds.json` writes; this command measures the
shipped models only. DATA is the folder of the data sets: snips/test.csv and so on.
"""

import dataclasses
import json
import pathlib
from typing import Any

from absl import flags

from converters.evaluation import evaluation, labelled_rows
from converters.tflite import model_folder
from converters.tflm import arena_probe
from converters.zoo import layout, seed_results
from embbert_tf import cli
from embbert_tf.data import files
from embbert_tf.storage import run_folder

BEGIN = "<!-- table: python -m converters.zoo.table -->"
END = "<!-- end of table -->"
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Which rows the models are measured on.

    Attributes:
        data: Folder of the data sets.
        limit: Rows to draw a task; 0 takes all.
        seed: Seed of the draw.
        workers: Processes for TFLM; 0: one a core.
    """

    data: pathlib.Path
    limit: int = 0
    seed: int = 0
    workers: int = 0


def measure(task: layout.Task, path: pathlib.Path, rows: Rows) -> list[Row]:
    """Measures one folder; returns one row a metric.

    Raises:
        ZooError, RunError, ModelFolderError, DataError, ProbeError: As its files make it necessary.
    """
    record = layout.read_record(path)
    run, folder = run_folder.load_run(path), model_folder.load(path)
    reported = str(rows.data / task.reported)
    examples = labelled_rows.read_sample(reported, rows.limit, rows.seed)
    owner = evaluation.Evaluation(run, examples, reported, task.name, rows.workers)
    measured = {
        "fp32": owner.metrics(owner.keras(run.model)),
        "qat": owner.metrics(owner.keras(run.qat_model)),
        "int8": owner.metrics(owner.tflm(folder.tflite, folder.max_length, "int8")),
    }
    about = record["origin"]
    backbone = about.get("backbone") or {}
    common = {
        "drawn": labelled_rows.is_drawn(reported, rows.limit),
        "max_length": folder.max_length,
        "file_bytes": len(folder.tflite),
        "arena_bytes": arena_probe.measure(folder.tflite_path)["smallest_bytes"],
        "folder_bytes": layout.folder_bytes(path),
        "recipe": folder.settings["recipe"]["name"],
        "seed": about.get("seed"),
        "imported": about.get("imported") or (backbone.get("origin") or {}).get("imported"),
        # Then the figure is not one of rows that nothing was chosen on.
        "chosen_on_reported_rows": layout.chosen_on_validation(about)
        and about.get("training", {}).get("valid_sha256") == files.sha256(reported),
        "tflite_sha256": folder.settings["sha256"],
    }
    result = []
    for number, metric in enumerate(task.metrics):
        row = {"task": task.name, "metric": metric, "split": task.split, "count": len(examples)}
        row |= {kind: values[metric] for kind, values in measured.items()}
        row |= {
            "published_fp32": task.published_fp32 if number == 0 else None,
            "published_8bit": task.published_8bit if number == 0 else None,
        }
        result.append(row | common)
    return result


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _published(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def table(rows: list[Row]) -> list[str]:
    """Returns the lines of the Markdown table of the shipped models."""
    lines = [
        "| task | rows | metric | fp32 | QAT | int8 on TFLM | published fp32 | published 8-bit "
        "| commonest answer | bag of words | S | `.tflite` | arena | trained |",
        "| --- | --- | --- |" + " ---: |" * 10 + " --- |",
    ]
    for row in rows:
        count = f"{row['split']}, {row['count']:,}"
        if row["drawn"]:
            count += " drawn"
        if row["chosen_on_reported_rows"]:
            count += "¹"
        if row["seed"] is None:
            trained = f"imported: {row['imported']}" if row["imported"] else "here"
        else:
            start = f", from imported {row['imported']}" if row["imported"] else ""
            trained = f"here, seed {row['seed']}{start}"
        task = layout.TASKS[row["task"]]
        number, baselines = task.metrics.index(row["metric"]), (task.commonest, task.bag_of_words)
        cells = [
            row["task"],
            count,
            row["metric"],
            *(_percent(row[kind]) for kind in ("fp32", "qat", "int8")),
            *(_published(row[kind]) for kind in ("published_fp32", "published_8bit")),
            *(f"{figures[number]:.2f}" if figures else "" for figures in baselines),
            str(row["max_length"]),
            f"{row['file_bytes']:,}",
            f"{row['arena_bytes']:,}",
            trained,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "The shipped models, measured from their files. In per cent; correlations times 100. "
        "`fp32` and `QAT` in Keras at up to 256 tokens, `int8` is `model.tflite` on the real TFLM "
        "at S tokens; arena: smallest that runs, 64-bit host, bytes.",
    ]
    if any(row["chosen_on_reported_rows"] for row in rows):
        lines += ["", "¹ The best epoch was chosen on these very rows: too good by that."]
    return lines


def replace(path: pathlib.Path, lines: list[str]) -> None:
    """Puts `lines` between the two marks of a file, atomically.

    Raises:
        ZooError: The file has not exactly one pair of marks.
        FileError: It cannot be read or written.
    """
    text = files.read_bytes(path).decode("utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise layout.ZooError(f"{path}: needs one line '{BEGIN}' and one line '{END}' after it")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    files.write_text(path, "\n".join([head + BEGIN, *lines, END]) + tail)


def _chosen(root: pathlib.Path, tasks: list[str]) -> set[str]:
    """Returns the tasks to measure: those that are named, or all that the zoo has."""
    for name in tasks:
        if name not in layout.TASKS:
            raise layout.ZooError(f"--tasks={name}: unknown; it knows {', '.join(layout.TASKS)}")
    there = {path.name for path in layout.folders(root)}
    chosen = there & set(tasks or layout.TASKS)
    missing = [name for name in tasks if name not in there]
    if missing or not chosen:
        raise layout.ZooError(
            f"{root}: no model of {', '.join(missing) or 'any task'}; "
            "`python -m converters.zoo.add` makes one"
        )
    return chosen


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    strings = {
        "zoo": (str(layout.ROOT), "Folder of the models."),
        "data": (None, "Folder of the data sets: snips/test.csv and so on."),
        "markdown": (None, "File whose table to replace."),
        "json": (None, "Also write the rows here, one JSON object a line."),
    }
    for name, (default, meaning) in strings.items():
        flags.DEFINE_string(name, default, meaning, flag_values=values)
    flags.DEFINE_list(
        "tasks",
        [],
        "Tasks to measure, the others' rows are kept; default all that the zoo has.",
        flag_values=values,
    )
    numbers = {
        "limit": "Take a seeded sample of this many rows a task; 0 takes all.",
        "seed": "Seed of the sample.",
        "workers": "Processes for TFLM; 0: one a core.",
    }
    for name, meaning in numbers.items():
        flags.DEFINE_integer(name, 0, meaning, lower_bound=0, flag_values=values)
    flags.mark_flag_as_required("data", flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Measures, prints and writes the tables."""
    root = pathlib.Path(values.zoo)
    chosen = _chosen(root, values.tasks)
    kept = layout.kept_rows(values.json, root, layout.TASKS.keys() - chosen) if values.tasks else {}
    sample = Rows(pathlib.Path(values.data), values.limit, values.seed, values.workers)
    rows = []
    for name, task in layout.TASKS.items():
        if name not in chosen:
            rows += kept.get(name, [])
            continue
        for row in measure(task, root / name, sample):
            rows.append(row)
            print(json.dumps(row), flush=True)
    lines = table(rows)
    seeds = root / seed_results.FILE
    if seeds.exists():
        lines += ["", *seed_results.table(seed_results.read(seeds))]
    print("\n".join(lines))
    if values.json:
        files.write_text(values.json, "".join(json.dumps(row) + "\n" for row in rows))
    if values.markdown:
        replace(pathlib.Path(values.markdown), lines)


if __name__ == "__main__":
    cli.run(define_flags, main)
