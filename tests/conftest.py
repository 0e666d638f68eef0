"""Fixtures that several test files share."""

import csv
import os
import pathlib

import pytest

from tests.support.runs import ROOT, run_module, small_rows


@pytest.fixture(scope="session")
def data_dir():
    """Folder of the real data sets; tests that need it are skipped where it is missing."""
    path = pathlib.Path(os.environ.get("EMBBERT_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no data sets at {path}; set EMBBERT_DATA")
    return path


@pytest.fixture(scope="session")
def small_csv(tmp_path_factory):
    """The rows above as a CSV file."""
    path = tmp_path_factory.mktemp("data") / "train.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *small_rows()])
    return path


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
