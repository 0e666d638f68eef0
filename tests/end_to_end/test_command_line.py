"""The whole way as a user types it: each command in a process of its own."""

import json
import re
import subprocess
import sys

import pytest

import converters
from tests.support.firmware_model import make
from tests.support.runs import ROOT, run_module

# What other people's libraries like to say on standard error.
FOREIGN = re.compile(r"WARNING|[IWE]0000|cuda|absl|TensorFlow|retracing|matplotlib", re.IGNORECASE)


@pytest.fixture(scope="module")
def job(tmp_path_factory, small_csv):
    """Trains, trains on with quantization, converts; the results by name, and the folder."""
    folder = tmp_path_factory.mktemp("a job")
    run, model = folder / "the run", folder / "the model"
    rows = [f"--train={small_csv}", f"--test={small_csv}"]
    script = ROOT / "converters/convert_tflite.py"
    convert = [
        f"--run={run}",
        f"--calibration={small_csv}",
        f"--output={model / 'any_name.tflite'}",
    ]
    return folder, {
        "train": run_module(
            "embbert_tf.train", *rows, f"--output={run}", "--preset=test", "--epochs=12",
            "--learning_rate=0.01", "--token_dropout=0", "--keep=last",
        ),
        "qat": run_module("embbert_tf.qat", f"--run={run}", *rows, "--epochs=2"),
        "convert": subprocess.run(
            [sys.executable, str(script), *convert], cwd=folder, capture_output=True, text=True
        ),
        "evaluate": run_module(
            "converters.evaluate_tflite", f"--model={model}", f"--data={small_csv}"
        ),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "qat", "convert", "evaluate"])
def test_each_command_succeeds_and_says_nothing_of_others(job, name):
    done = job[1][name]
    assert done.returncode == 0, done.stdout + done.stderr
    assert not FOREIGN.search(done.stdout + done.stderr), done.stdout + done.stderr


@pytest.mark.slow
def test_every_stage_knows_the_task(job):
    folder, done = job
    metrics = json.loads((folder / "the run/metrics.json").read_text())
    assert metrics["fp32"]["test"]["accuracy"] >= 0.95
    assert metrics["qat"]["test"]["accuracy"] >= 0.95
    assert json.loads(done["evaluate"].stdout)["accuracy"] >= 0.95


@pytest.mark.slow
def test_the_model_answers_alike_in_python_and_as_firmware(job):
    folder, _ = job
    model = converters.load_model(folder / "the model")
    text = "enable the lamp 3"
    result = make("run", TARGET="mps2-an386", MODEL=folder / "the model", TEXT=text)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith(f"{model.classify(text).label} ")
    assert model.classify(text).label == "on"


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("embbert_tf.train", ["--train=no such.csv", "--output={0}/x"], "no such.csv"),
        ("embbert_tf.qat", ["--run={0}/nothing", "--train={1}"], "nothing"),
        ("converters.evaluate_tflite", ["--model={0}", "--data={1}"], "model"),
    ],
)
def test_a_mistake_is_one_line(module, arguments, words, small_csv, tmp_path):
    done = run_module(module, *(part.format(tmp_path, small_csv) for part in arguments))
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert list(tmp_path.iterdir()) == []
