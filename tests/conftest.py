"""Fixtures that several test files share."""

import csv
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir():
    """Folder of the real data sets; tests that need it are skipped where it is missing."""
    path = pathlib.Path(os.environ.get("EMBBERT_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no data sets at {path}; set EMBBERT_DATA")
    return path


def small_rows():
    """180 texts of three classes that one word decides."""
    words = {"on": ("start", "enable"), "off": ("stop", "disable"), "ask": ("what", "which")}
    return [
        (f"{word} the {thing} {number}", label)
        for number in range(6)
        for label, pair in words.items()
        for word in pair
        for thing in ("fan", "lamp", "pump", "door", "heater")
    ]


@pytest.fixture(scope="session")
def small_csv(tmp_path_factory):
    """The rows above as a CSV file."""
    path = tmp_path_factory.mktemp("data") / "train.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *small_rows()])
    return path


def run_module(module, *arguments):
    """Runs `python -m module`; returns the finished process with its output as text."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, small_csv):
    """A finished run of the preset `test`, quantization-aware training included."""
    path = tmp_path_factory.mktemp("run") / "run"
    done = run_module(
        "embbert_tf.train", f"--train={small_csv}", f"--test={small_csv}", f"--output={path}",
        "--preset=test", "--epochs=12", "--learning_rate=0.01", "--token_dropout=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run_module(
        "embbert_tf.qat", f"--run={path}", f"--train={small_csv}", f"--test={small_csv}",
        "--epochs=2", "--samples=64",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return path
