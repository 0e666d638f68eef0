"""The main job, end to end: from a CSV file to int8 logits on an emulated Cortex-M.

Runs the project's own commands one after another, each printed before it runs, so that any step can
be repeated by hand. A step whose result is already there and still fits is quick: training resumes
where it was killed. Ends with a table and `report.json` in `build/<name>/`.

Example:
  python -m converters.pipeline --train=train.csv --test=test.csv --name=snips
"""

import json
import os
import pathlib
import random
import re
import shlex
import subprocess
import sys
import threading
import time

import numpy as np
from absl import app, flags

from converters.evaluation import board, labelled_rows
from converters.kernels import recognize, reference
from converters.tflite import model_folder
from converters.tflm import runner
from embbert_tf import errors as errors_lib
from embbert_tf.data import examples, files
from embbert_tf.storage import run_folder

_TRAIN = flags.DEFINE_string("train", None, "Training CSV: text,label.", required=True)
_TEST = flags.DEFINE_string("test", None, "Test CSV.", required=True)
_VALID = flags.DEFINE_string(
    "valid", None, "Validation CSV; without it, training holds out a part of --train."
)
_NAME = flags.DEFINE_string("name", "demo", "Name of the job; results go to <build>/<name>/.")
_BUILD = flags.DEFINE_string("build", "build", "Folder for results.")
_TARGET = flags.DEFINE_string("target", "mps2-an386", "Board that firmware is built and run for.")
_TRAIN_FLAGS = flags.DEFINE_string("train_flags", "", "More flags for embbert_tf.train.")
_QAT_FLAGS = flags.DEFINE_string("qat_flags", "", "More flags for embbert_tf.qat.")
_CONVERT_FLAGS = flags.DEFINE_string("convert_flags", "", "More flags for convert_tflite.py.")
_DEVICE_LIMIT = flags.DEFINE_integer(
    "device_limit", 0, "Run only this many seeded test rows on the board; 0 runs all."
)

_ROOT = pathlib.Path(__file__).resolve().parent.parent


# Logged before absl's logging is set up, so no level applies to them.
_NOTES = re.compile(r"I0000 |WARNING: All log messages before absl::InitializeLog")


class StepError(RuntimeError):
    """A step failed; it has printed why."""


def _step(title: str, command: list[str], timings: dict[str, float], capture: bool = False) -> str:
    """Runs a command; with `capture`, returns the last line that it prints."""
    print(f"\n== {title}\n   {shlex.join(command)}", flush=True)
    start = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=environment,
        stdout=subprocess.PIPE if capture else None,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    errors = threading.Thread(target=_pass_on, args=(process.stderr,))
    errors.start()
    output = process.stdout.read() if capture else ""
    returncode = process.wait()
    errors.join()
    if capture:
        print(output, end="", flush=True)
    timings[title] = time.monotonic() - start
    if returncode:
        raise StepError(f"step '{title}' failed (exit status {returncode})")
    return output.strip().splitlines()[-1] if capture else ""


def _pass_on(stream) -> None:
    """Copies a step's error output, less TensorFlow's start-up notes, which nothing else stops."""
    for line in stream:
        if not _NOTES.match(line):
            print(line, end="", file=sys.stderr, flush=True)


def _device_rows(path: str, limit: int, build: pathlib.Path) -> str:
    """Returns the CSV to run on the board: `path`, or a seeded sample of it in `build`."""
    import csv

    rows = list(examples.read_examples(path))
    if path.endswith(".csv") and not (limit and limit < len(rows)):
        return path
    if limit and limit < len(rows):
        rows = random.Random(0).sample(rows, limit)
    sample = build / "device_rows.csv"
    with open(sample, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        pair = rows[0].text_pair is not None
        writer.writerow(["text", "text_pair", "label"] if pair else ["text", "label"])
        for row in rows:
            writer.writerow([row.text, row.text_pair, row.label] if pair else [row.text, row.label])
    return str(sample)


def _keras_predictions(run, sequences: list[list[int]]) -> dict[str, np.ndarray]:
    """Class indices of the fp32 and, if there is one, the QAT model."""
    result = {}
    for name, model in (("fp32", run.model), ("qat", run.qat_model)):
        if model is None:
            continue
        logits = [None] * len(sequences)
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        for start in range(0, len(order), 64):
            batch = order[start : start + 64]
            width = max(len(sequences[i]) for i in batch)
            ids = np.concatenate([model_folder.pad(sequences[i], width) for i in batch])
            for i, row in zip(batch, model(ids, training=False).numpy(), strict=True):
                logits[i] = row
        result[name] = np.stack(logits)
    return result


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(pathlib.Path(path).resolve())


def run_job() -> dict:
    """Runs every step and returns the report.

    Raises:
      StepError: A step failed.
      DataError: A CSV file cannot be used.
    """
    train, test, valid = map(_absolute, (_TRAIN.value, _TEST.value, _VALID.value))
    for path in (train, test, valid):
        if path is not None:
            next(examples.read_examples(path), None)  # fails early, with file and line
    build = pathlib.Path(_BUILD.value).resolve() / _NAME.value
    build.mkdir(parents=True, exist_ok=True)
    run_path, folder_path = build / "run", build / "model"
    tflite = folder_path / model_folder.TFLITE
    timings: dict[str, float] = {}
    python = sys.executable
    command = [python, "-m", "embbert_tf.train", f"--train={train}", f"--output={run_path}"]
    command += [f"--test={test}"] + ([f"--valid={valid}"] if valid else [])
    _step("train fp32", command + shlex.split(_TRAIN_FLAGS.value), timings)
    command = [python, "-m", "embbert_tf.qat", f"--run={run_path}", f"--train={train}"]
    command.append(f"--test={test}")
    _step("quantization-aware training", command + shlex.split(_QAT_FLAGS.value), timings)
    command = [python, "converters/convert_tflite.py", f"--run={run_path}"]
    command += [f"--calibration={train}", f"--output={tflite}"]
    held_out = valid or str(run_path / "valid.csv")
    if os.path.exists(held_out):
        command.append(f"--validation={held_out}")
    _step("convert to int8", command + shlex.split(_CONVERT_FLAGS.value), timings)
    logits_path = build / "tflm_logits.npy"
    command = [python, "-m", "converters.evaluate_tflite", f"--model={folder_path}"]
    command += [f"--data={test}", f"--logits={logits_path}"]
    _step("evaluate on TFLM", command, timings)

    rows = _device_rows(test, _DEVICE_LIMIT.value, build)
    device_logits = build / "device_logits.bin"
    make = ["make", "--no-print-directory", "-C", "tflm_app", f"TARGET={_TARGET.value}"]
    make += [f"MODEL={folder_path}", f"PYTHON={python}"]
    _step(
        "evaluate on the board",
        [*make, "eval", f"CSV={rows}", f"LOGITS={device_logits}"],
        timings,
    )
    sizes = json.loads(_step("size of the firmware", [*make, "size"], timings, capture=True))
    report = _report(build, test, rows, logits_path, device_logits, sizes)
    report["seconds"] = {title: round(value, 1) for title, value in timings.items()}
    files.write_json(build / "report.json", report)
    return report


def _report(build, test, rows, logits_path, device_logits, sizes: dict) -> dict:
    from converters.tflm import arena_probe

    folder = model_folder.load(build / "model")
    run = run_folder.load_run(build / "run")
    sequences, targets = labelled_rows.read_rows(folder, test)
    tflm = np.load(logits_path)
    keras = _keras_predictions(run, sequences)
    device_sequences, device_targets = labelled_rows.read_rows(folder, rows)
    device = board.read_logits(device_logits, len(device_sequences), tflm.shape[1])
    same_rows = tflm if rows == test else runner.run_all(folder, device_sequences)
    exact = reference.Reference(recognize.extract(folder.tflite))
    expected = np.stack([exact.infer(ids) for ids in device_sequences])
    arena = arena_probe.measure(folder.path / model_folder.TFLITE)

    def accuracy(logits, wanted):
        return float(np.mean(logits.argmax(axis=1) == np.asarray(wanted)))

    report = {
        "name": _NAME.value,
        "labels": folder.labels,
        "parameters": int(run.model.count_params()),
        "max_length": folder.max_length,
        "count": len(targets),
        "fp32_accuracy": accuracy(keras["fp32"], targets),
        "qat_accuracy": accuracy(keras["qat"], targets) if "qat" in keras else None,
        "tflm_accuracy": accuracy(tflm, targets),
        "device_accuracy": accuracy(device, device_targets),
        "device_count": len(device_targets),
        "agreement_fp32_tflm": float(np.mean(keras["fp32"].argmax(1) == tflm.argmax(1))),
        "agreement_qat_tflm": float(np.mean(keras["qat"].argmax(1) == tflm.argmax(1)))
        if "qat" in keras
        else None,
        "agreement_tflm_device": float(np.mean(same_rows.argmax(1) == device.argmax(1))),
        "device_equals_reference": bool(np.array_equal(device, expected)),
        "tflite_bytes": len(folder.tflite),
        "arena_head_bytes": arena["head_bytes"],
        "arena_tail_bytes": arena["tail_bytes"],
        "arena_min_bytes": arena["smallest_bytes"],
        "flash_bytes": sizes["flash_bytes"],
        "ram_bytes": sizes["ram_bytes"],
        "target": _TARGET.value,
        "compiler": sizes["compiler"],
        "confidence_threshold": folder.settings["confidence_threshold"],
        "recipe": folder.settings["recipe"]["name"],
        "versions": folder.settings["versions"],
    }
    return report


def _table(report: dict) -> str:
    def percent(value):
        return "-" if value is None else f"{100 * value:.2f} %"

    lines = [
        ("fp32 accuracy (Keras)", percent(report["fp32_accuracy"])),
        ("QAT accuracy (Keras)", percent(report["qat_accuracy"])),
        ("int8 accuracy (TFLM, host)", percent(report["tflm_accuracy"])),
        (f"int8 accuracy ({report['target']})", percent(report["device_accuracy"])),
        ("labels alike, fp32 and TFLM", percent(report["agreement_fp32_tflm"])),
        ("labels alike, TFLM and board", percent(report["agreement_tflm_device"])),
        ("board's logits equal to the reference", str(report["device_equals_reference"]).lower()),
        (".tflite", f"{report['tflite_bytes']:,} bytes"),
        ("TFLM arena, smallest that runs", f"{report['arena_min_bytes']:,} bytes"),
        ("firmware flash, weights included", f"{report['flash_bytes']:,} bytes"),
        ("firmware RAM, stack included", f"{report['ram_bytes']:,} bytes"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}}  {value:>16}" for name, value in lines)


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        report = run_job()
    except (
        StepError,
        errors_lib.DataError,
        errors_lib.RunError,
        model_folder.ModelFolderError,
        board.ResultsError,
        OSError,
    ) as error:
        sys.exit(f"pipeline: {error}")
    total = sum(report["seconds"].values())
    print(
        f"\n== {report['name']}: {len(report['labels'])} labels, {report['count']} test rows, "
        f"{report['parameters']:,} parameters, {report['max_length']} tokens, {total:.0f} s"
    )
    print(_table(report))
    print(f"  report: {_BUILD.value}/{report['name']}/report.json")
    if not report["device_equals_reference"]:
        sys.exit("pipeline: the board's logits differ from the reference")


if __name__ == "__main__":
    app.run(main)
