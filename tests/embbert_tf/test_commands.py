import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from embbert_tf.data import tokenizer
from embbert_tf.storage import run_folder
from tests.support.runs import ROOT, run_command

# As the fixture `tiny_run` was trained.
TRAIN = [
    "--preset=test", "--epochs=12", "--learning_rate=0.01", "--token_dropout=0", "--keep=last"
]  # fmt: skip


def test_run_folder_is_complete(tiny_run):
    loaded = run_folder.load_run(tiny_run)
    assert loaded.labels == ["ask", "off", "on"]
    assert (loaded.task, loaded.pair) == ("classification", False)
    assert loaded.config.vocab_size == loaded.tokenizer.get_vocab_size()
    for stage in ("fp32", "qat"):
        result = loaded.metrics[stage]["test"]
        assert result["count"] == 180
        assert result["accuracy"] >= 0.95
        assert result["macro_f1"] >= 0.95
        assert list(result["classes"]) == loaded.labels
    ids = tokenizer.encode(loaded.tokenizer, "stop the pump")
    for model in (loaded.model, loaded.qat_model):
        assert loaded.labels[model(np.array([ids])).numpy().argmax()] == "off"
    assert not list(tiny_run.glob("*checkpoint*"))
    assert not list(tiny_run.glob(".partial-*"))


def test_a_finished_run_is_left_alone_and_other_flags_are_refused(tiny_run, small_csv):
    before = (tiny_run / run_folder.FP32).read_bytes()
    same = [f"--train={small_csv}", f"--test={small_csv}", f"--output={tiny_run}", *TRAIN]
    done = run_command("embbert_tf.train", *same)
    assert done.returncode == 0
    assert "finished already" in done.stdout
    done = run_command("embbert_tf.train", *same, "--seed=5")
    assert done.returncode == 1
    assert "seed" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tiny_run / run_folder.FP32).read_bytes() == before


@pytest.mark.parametrize(
    "content, words", [("text,label\na,x\nb,x\n", "'x'"), ("text,label\na,x\nb,\n", ":3:")]
)
def test_bad_data_is_one_line_without_traceback(tmp_path, content, words):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    done = run_command("embbert_tf.train", f"--train={path}", f"--output={tmp_path / 'run'}")
    assert done.returncode == 1
    assert "bad.csv" in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_killed_training_goes_on_and_loses_one_epoch_at_most(tmp_path, small_csv):
    path = tmp_path / "run"
    command = [
        f"--train={small_csv}", f"--output={path}", "--preset=test", "--epochs=40",
        "--patience=40", "--batch_size=8",
    ]  # fmt: skip
    log = tmp_path / "out.txt"
    with open(log, "w") as out:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "embbert_tf.train", *command],
            cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    # Some time after the third epoch, wherever that may be.
    deadline = time.monotonic() + 120
    while "epoch 3/40" not in log.read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(random.uniform(0.0, 0.4))
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    printed = log.read_text().count("train: epoch")
    assert printed < 40

    done = run_command("embbert_tf.train", *command)
    assert done.returncode == 0, done.stderr
    resumed = int(done.stdout.split("resuming after epoch ")[1].split()[0])
    # The line is printed just before the checkpoint is written, so one may be missing.
    assert resumed >= printed - 1
    assert done.stdout.count("train: epoch") == 40 - resumed
    metrics = json.loads((path / run_folder.METRICS).read_text())
    assert len(metrics["fp32"]["history"]) == 40
