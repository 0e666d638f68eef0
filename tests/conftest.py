"""Fixtures that several test files share, and how tests are divided among processes."""

import csv
import os
import pathlib
import shutil
from collections.abc import Callable

import filelock
import pytest

import converters
import embbert_tf
from tests.support import data_sets, tokenizer_host
from tests.support.runs import small_rows

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # Processes of pytest-xdist build their programs for boards apart from each other;
    # tflm_app/Makefile reads this.
    os.environ["BUILD_FOLDER"] = f"build/tests-{worker}"
    # There is one process a processor; TensorFlow, not loaded yet, reads these.
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"


# Tests on these wait for SLOW=1; those on the host, the Cortex-M4 and the Cortex-M55 are the same.
OTHER_BOARDS = (
    "mps2-an385",
    "mps2-an500",
    "mps2-an505",
    "netduinoplus2",
    "microbit",
    "cortex-m4-64k",
    "cortex-m4-256k",
)
# These take half a minute or more. One that starts last would be one that the other processes
# wait for.
LONG = (
    "tests/converters/test_pipeline.py",
    "tests/embbert_tf/training",
    "tests/end_to_end",
    "tests/test_examples.py",
    "tests/tflm_app",
)


def pytest_collection_modifyitems(items):
    """Puts long files first and marks tests on the less used boards as slow."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    for item in items:
        if any(board in item.name for board in OTHER_BOARDS):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def eager(request):
    """TensorFlow runs its functions as Python while a test lasts.

    For trainings of a dozen steps: to trace a step and to optimize its graph takes seconds, to take
    it eagerly a tenth of one. Trainings of more steps are quicker traced, as in a command.
    """
    import tensorflow as tf

    # Made first, if the test asks for it: it takes many steps.
    if "tiny_run" in request.fixturenames:
        request.getfixturevalue("tiny_run")
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Fills a folder in the first process that asks for it; every process reads the same one."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def make(name: str, fill: Callable[[pathlib.Path], None]) -> pathlib.Path:
        folder, filled = base / name, base / f"{name}.filled"
        with filelock.FileLock(base / f"{name}.lock"):
            if not filled.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
                folder.mkdir()
                fill(folder)
                filled.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def data_dir():
    """Folder of the real data sets; tests that need it are skipped where it is missing."""
    path = data_sets.folder()
    if path is None:
        pytest.skip(data_sets.MISSING)
    return path


@pytest.fixture(scope="session")
def data_tokenizer(made_once, data_dir):
    """A tokenizer.json of 8,192 tokens, as the models', trained on real text."""
    folder = made_once("data_tokenizer", lambda path: tokenizer_host.train_on(data_dir, path))
    return folder / "tokenizer.json"


@pytest.fixture(scope="session")
def small_csv(made_once):
    """The rows of `small_rows` as a CSV file."""

    def fill(folder):
        with open(folder / "train.csv", "w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *small_rows()])

    return made_once("small_csv", fill) / "train.csv"


@pytest.fixture(scope="session")
def tiny_run(made_once, small_csv):
    """A finished run of the preset `test`, quantization-aware training included; to be read."""

    def fill(folder):
        options = embbert_tf.TrainOptions(
            # The last epoch: on so few rows held out, the first lucky one would count as the best.
            preset="test",
            epochs=12,
            learning_rate=0.01,
            token_dropout=0.0,
            keep="last",
        )
        run = embbert_tf.train(small_csv, test=small_csv, output=folder / "run", options=options)
        options = embbert_tf.QatOptions(epochs=2, samples=64)
        embbert_tf.train_quantized(run, small_csv, options, test=small_csv)

    return made_once("tiny_run", fill) / "run"


@pytest.fixture(scope="session")
def tiny_model(made_once, tiny_run, small_csv):
    """The model folder of `tiny_run`; to be read."""

    def fill(folder):
        converters.convert(tiny_run, calibration=small_csv).save(folder / "model")

    return made_once("tiny_model", fill) / "model"
