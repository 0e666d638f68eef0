"""Measures every model of `zoo/` from its files and prints the table.

For each task: the metric on the test set (or the development set, where the test set's labels are
not public) of the fp32 and the QAT weights in Keras and of `model.tflite` on the real TFLM, beside
the published figures and, for three tasks of GLUE, the constants of the commonest answer and of a
bag of words (`converters/zoo/layout.py`). File and arena are measured anew.

Example:
  python -m converters.zoo.table --data=../shared/data --markdown=zoo/README.md \
      --json=zoo/table.jsonl

With `--tasks` the other models' rows are those of an earlier `--json`, as long as their
`model.tflite` is the one that was measured then. `--markdown` replaces what stands between the two
marks in that file. Medians of three seeds come from `zoo/seeds.json`, which
`python -m converters.benchmarks.accuracy --json=zoo/seeds.json` writes; this command measures the
shipped models only.
"""

import json
import pathlib
import sys

from absl import app, flags

from converters.evaluation import evaluation, labelled_rows
from converters.tflite import model_folder
from converters.tflm import arena_probe
from converters.zoo import layout, seed_results
from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.storage import run_folder

_ZOO = flags.DEFINE_string("zoo", str(layout.ROOT), "Folder of the models.")
_DATA = flags.DEFINE_string("data", None, "Folder of the data sets: snips/test.csv and so on.")
_TASKS = flags.DEFINE_list(
    "tasks", [], "Tasks to measure, the others' rows are kept; default all that the zoo has."
)
_LIMIT = flags.DEFINE_integer(
    "limit", 0, "Take a seeded sample of this many rows a task; 0 takes all.", lower_bound=0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the sample.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes for TFLM; 0: one a core.", lower_bound=0)
_MARKDOWN = flags.DEFINE_string("markdown", None, "File whose table to replace.")
_JSON = flags.DEFINE_string("json", None, "Also write the rows here, one JSON object a line.")
BEGIN = "<!-- table: python -m converters.zoo.table -->"
END = "<!-- end of table -->"


def measure(task: layout.Task, path: pathlib.Path) -> list[dict]:
    """Measures one folder; returns one row a metric.

    Raises:
      ZooError, RunError, ModelFolderError, DataError, ProbeError: As its files make it necessary.
    """
    record = layout.read_record(path)
    run, folder = run_folder.load_run(path), model_folder.load(path)
    data = pathlib.Path(_DATA.value)
    reported = data / task.reported
    examples = labelled_rows.read_sample(str(reported), _LIMIT.value, _SEED.value)
    rows = evaluation.Evaluation(run, examples, str(reported), task.name, _WORKERS.value)
    measured = {
        "fp32": rows.metrics(rows.keras(run.model)),
        "qat": rows.metrics(rows.keras(run.qat_model)),
        "int8": rows.metrics(rows.tflm(folder.tflite, folder.max_length, "int8")),
    }
    drawn = labelled_rows.is_drawn(str(reported), _LIMIT.value)
    about = record["origin"]
    backbone = about.get("backbone") or {}
    imported = about.get("imported") or (backbone.get("origin") or {}).get("imported")
    result = []
    for number, metric in enumerate(task.metrics):
        row = {"task": task.name, "metric": metric, "split": task.split, "count": len(examples)}
        row |= {kind: values[metric] for kind, values in measured.items()}
        row |= {
            "drawn": drawn,
            "published_fp32": task.published_fp32 if number == 0 else None,
            "published_8bit": task.published_8bit if number == 0 else None,
            "max_length": folder.max_length,
            "file_bytes": len(folder.tflite),
            "arena_bytes": arena_probe.measure(path / model_folder.TFLITE)["smallest_bytes"]
            if number == 0
            else result[0]["arena_bytes"],
            "folder_bytes": layout.folder_bytes(path),
            "recipe": folder.settings["recipe"]["name"],
            "seed": about.get("seed"),
            "imported": imported,
            # Then the figure is not one of rows that nothing was chosen on.
            "chosen_on_reported_rows": layout.chosen_on_validation(about)
            and about.get("training", {}).get("valid_sha256") == files.sha256(reported),
            "tflite_sha256": folder.settings["sha256"],
        }
        result.append(row)
    return result


def _percent(value) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _published(value) -> str:
    return "" if value is None else f"{value:.1f}"


def table(rows: list[dict]) -> list[str]:
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
    """
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise layout.ZooError(f"{path}: needs one line '{BEGIN}' and one line '{END}' after it")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    text = "\n".join([head + BEGIN, *lines, END]) + tail
    files.write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _chosen(root: pathlib.Path) -> list[layout.Task]:
    for name in _TASKS.value:
        if name not in layout.TASKS:
            raise layout.ZooError(f"--tasks={name}: unknown; it knows {', '.join(layout.TASKS)}")
    there = {path.name for path in layout.folders(root)}
    chosen = [layout.TASKS[name] for name in _TASKS.value or layout.TASKS if name in there]
    if len(chosen) < max(len(_TASKS.value), 1):
        missing = [name for name in _TASKS.value if name not in there]
        raise layout.ZooError(
            f"{root}: no model of {', '.join(missing) or 'any task'}; "
            "`python -m converters.zoo.add` makes one"
        )
    return chosen


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    root = pathlib.Path(_ZOO.value)
    try:
        chosen = {task.name for task in _chosen(root)}
        kept = (
            layout.kept_rows(_JSON.value, root, layout.TASKS.keys() - chosen)
            if _TASKS.value
            else {}
        )
        rows = []
        for name, task in layout.TASKS.items():
            if name not in chosen:
                rows += kept.get(name, [])
                continue
            for row in measure(task, root / name):
                rows.append(row)
                print(json.dumps(row), flush=True)
        lines = table(rows)
        seeds = root / seed_results.FILE
        if seeds.exists():
            lines += ["", *seed_results.table(seed_results.read(seeds))]
        print("\n".join(lines))
        if _JSON.value:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            files.write_atomic(_JSON.value, lambda path: path.write_text(text, encoding="utf-8"))
        if _MARKDOWN.value:
            replace(pathlib.Path(_MARKDOWN.value), lines)
    except (
        layout.ZooError,
        seed_results.SeedResultsError,
        errors.RunError,
        model_folder.ModelFolderError,
        errors.DataError,
        arena_probe.ProbeError,
        OSError,
    ) as error:
        sys.exit(f"zoo_table: {error}")


if __name__ == "__main__":
    flags.mark_flag_as_required("data")
    app.run(main)
