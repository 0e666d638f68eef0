"""Pre-training: it learns, resumes exactly, and gives the same on one process and on two."""

import dataclasses
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from tensorflow.python.framework import config as framework_config

from embbert_tf import pretrain
from embbert_tf.data.tokenizer import train_tokenizer
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.pretraining import batches as batches_lib
from embbert_tf.pretraining import corpus
from embbert_tf.pretraining import model as model_lib
from embbert_tf.pretraining import trainer as trainer_lib
from embbert_tf.storage import backbone_folder

CONFIG = EmbBertConfig(
    vocab_size=120,
    max_length=32,
    hidden_size=16,
    reduced_size=8,
    num_layers=2,
    kernel_size=4,
    dropout=0.1,
)
WORDS = ["red", "green", "blue", "small", "large", "old", "new", "cold", "warm", "dark"]
SETTINGS = {"steps": 14, "learning_rate": 0.01, "warm_up": 3}


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    """A text whose sentences repeat a word, so that a masked one can be read off the other."""
    random = np.random.default_rng(0)
    lines = []
    for _ in range(400):
        word, other = random.choice(WORDS, 2)
        lines.append(f"the {word} {other} thing is {word}. it was {other} and not {word}.")
    folder = tmp_path_factory.mktemp("pretrain")
    (folder / "text.txt").write_text("\n".join(lines))
    train_tokenizer(lines, CONFIG.vocab_size).save(str(folder / "tokenizer.json"))
    return folder


def _batches(folder, steps, **options):
    from embbert_tf.data.tokenizer import load_tokenizer

    text = corpus.load_or_tokenize(
        [folder / "text.txt"], load_tokenizer(folder / "tokenizer.json"), folder / "cache"
    )
    vocab_size = load_tokenizer(folder / "tokenizer.json").get_vocab_size()
    options = batches_lib.BatchOptions(**{"tokens": 256, "lengths": (16,), **options})
    return batches_lib.Batches(text, vocab_size, steps, options)


def _train(folder, output, stop_after=None, resume=False, lengths=(16,), **settings):
    schedule = trainer_lib.Schedule(**{**SETTINGS, **settings})
    trainer = trainer_lib.Trainer(CONFIG, schedule, tf.distribute.get_strategy(), seed=3)
    output.mkdir(exist_ok=True)
    if resume:
        trainer.restore(output / trainer_lib.CHECKPOINT, "key")
    batches = _batches(folder, schedule.steps, lengths=lengths, seed=3)
    figures = trainer_lib.run_training(trainer, batches, output, "key", 4, 5, stop_after)
    return trainer, figures


def test_learns(folder, tmp_path):
    _, figures = _train(folder, tmp_path / "out", steps=150, learning_rate=0.02)
    lines = [json.loads(line) for line in (tmp_path / "out" / trainer_lib.LOG).open()]
    assert [line["step"] for line in lines] == list(range(5, 151, 5))
    # Guessing by frequency alone gives 2.6 nats on this text.
    assert lines[0]["masked_loss"] > 3.5
    assert figures["masked_loss"] < 2.2
    assert figures["masked_accuracy"] > 2 * lines[0]["masked_accuracy"]
    assert figures["tokens_per_second"] > 0


@pytest.fixture(name="deterministic")
def _deterministic():
    """As the command line has it; for one test alone, since it slows others down."""
    tf.config.experimental.enable_op_determinism()
    yield
    framework_config.disable_op_determinism()


def test_resumes_to_the_same_weights(folder, tmp_path, deterministic):
    whole, _ = _train(folder, tmp_path / "whole", lengths=(16, 32))
    first, _ = _train(folder, tmp_path / "cut", lengths=(16, 32), stop_after=6)
    assert first.step == 6
    second, _ = _train(folder, tmp_path / "cut", lengths=(16, 32), resume=True)
    assert second.step == whole.step == SETTINGS["steps"]
    moved = 0.0
    for a, b, early in zip(whole._variables, second._variables, first._variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        moved = max(moved, np.abs(a.numpy() - early.numpy()).max())
    assert moved > 1e-3


def test_foreign_or_damaged_checkpoint(folder, tmp_path):
    trainer, _ = _train(folder, tmp_path / "out", stop_after=1)
    path = tmp_path / "out" / trainer_lib.CHECKPOINT
    with pytest.raises(pretrain.run_lib.RunError, match="other settings"):
        trainer.restore(path, "another key")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(pretrain.run_lib.RunError, match="delete it"):
        trainer.restore(path, "key")


def test_loss_counts_masked_positions_and_pairs_alone(folder):
    batches = _batches(folder, 1)
    batch = batches.part(0)
    tf.random.set_seed(0)
    model = model_lib.EmbBertPretrainer(CONFIG)
    loss, sums = model_lib.losses(model, dataclasses.astuple(batch), len(batch.ids))
    hidden = model.backbone(batch.ids).numpy()
    logits = hidden @ model.masked_token.kernel.numpy() + model.masked_token.bias.numpy()
    expected = places = 0
    for row, positions in enumerate(batch.positions):
        for position, label, weight in zip(
            positions, batch.labels[row], batch.weights[row], strict=True
        ):
            z = logits[row, position].astype(np.float64)
            expected += weight * (np.log(np.exp(z - z.max()).sum()) + z.max() - z[label])
            places += 1
    np.testing.assert_allclose(sums[0], expected, rtol=1e-5)
    z = (hidden[:, 0] @ model.next_sentence.kernel.numpy())[:, 0].astype(np.float64)
    pair = np.logaddexp(0, z) - z * batch.follows
    pair_loss = (pair * batch.is_pair).sum() / len(z)
    np.testing.assert_allclose(loss, expected / places + pair_loss, rtol=1e-5)
    assert sums[2] == places and sums[4] == batch.is_pair.sum() > 0


def test_rate_rises_and_falls():
    schedule = trainer_lib.Schedule(steps=100, learning_rate=1.0, warm_up=10)
    assert schedule.rate(0) == pytest.approx(0.1) and schedule.rate(9) == 1.0
    assert schedule.rate(55) == pytest.approx(0.5) and schedule.rate(99) == pytest.approx(1 / 90)


def _command(folder, output, *more):
    return [
        *("-m", "embbert_tf.pretrain", f"--input={folder / 'text.txt'}", f"--output={output}"),
        f"--init={folder / 'start'}",
        *("--steps=14", "--learning_rate=0.01", "--warm_up=3", "--seed=3", "--lengths=16"),
        *("--batch_tokens=256", "--checkpoint_steps=4", "--log_steps=5", *more),
    ]


@pytest.fixture(scope="module", name="single")
def _single(folder):
    """Weights of one process at the kill and at the end, from `start`'s backbone."""
    trainer = trainer_lib.Trainer(
        CONFIG, trainer_lib.Schedule(**SETTINGS), tf.distribute.get_strategy(), 3
    )
    backbone_folder.save_backbone(
        folder / "start", trainer.model.backbone, folder / "tokenizer.json", {"test": True}
    )
    batches = _batches(folder, SETTINGS["steps"], seed=3)
    (folder / "single").mkdir()
    trainer_lib.run_training(trainer, batches, folder / "single", "key", 4, 5, stop_after=4)
    early = [v.numpy() for v in trainer._variables]
    trainer_lib.run_training(trainer, batches, folder / "single", "key", 4, 5)
    return early, [v.numpy() for v in trainer._variables]


def _assert_close(path, expected):
    with np.load(path) as arrays:
        got = [arrays[f"variable_{index}"] for index in range(len(expected))]
    # The first of the optimizer's variables count steps and hold the rate.
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


def test_replicas_of_one_machine(folder, single, tmp_path):
    subprocess.run(
        [sys.executable, *_command(folder, tmp_path, "--replicas=2")],
        check=True,
        capture_output=True,
        timeout=300,
    )
    _assert_close(tmp_path / trainer_lib.CHECKPOINT, single[1])
    loaded = backbone_folder.load_backbone(tmp_path)
    assert loaded.config == dataclasses.replace(CONFIG, dropout=0.0)
    np.testing.assert_allclose(loaded.model.get_weights()[0], single[1][0], rtol=0, atol=2e-5)


# A worker that is killed, as by a lost machine, at the beginning of step 6.
DYING = """
import os, signal, sys
from absl import app
from embbert_tf import pretrain
step = pretrain.Trainer.train
def train(self, batch, rows):
    if self.step == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, rows)
pretrain.Trainer.train = train
pretrain.define_flags()
app.run(pretrain.main)
"""


def test_two_workers_one_killed_and_restarted(folder, single, tmp_path):
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    processes = []

    def start(index, arguments):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        log = (tmp_path / f"log{index}-{len(processes)}").open("w")
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "TF_CONFIG": json.dumps(task)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        processes.append(process)
        return process

    def logs():
        return "\n".join(path.read_text()[-3000:] for path in sorted(tmp_path.glob("log*")))

    output = tmp_path / "out"
    command = _command(folder, output)
    try:
        chief = start(0, command)
        dying = start(1, ["-c", DYING, *command[2:]])
        assert dying.wait(300) == -9, logs()
        # Two workers, before any was lost: the weights of one process.
        _assert_close(output / trainer_lib.CHECKPOINT, single[0])
        assert not (output / backbone_folder.BACKBONE).exists()
        restarted = start(1, command)
        assert chief.wait(300) == 0, logs()
        assert restarted.wait(300) == 0, logs()
    finally:
        for process in processes:
            process.kill()
    assert "a worker is gone" in logs() and "from step 4" in logs()
    _assert_close(output / trainer_lib.CHECKPOINT, single[1])
    assert backbone_folder.load_backbone(output).config == dataclasses.replace(CONFIG, dropout=0.0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lengths=16,x"], "not numbers"),
        (["--lengths=64"], "above the model's longest"),
        (["--input=none.txt"], "none.txt"),
    ],
)
def test_errors_in_one_line(folder, single, tmp_path, capsys, more, message):
    del single  # It makes the folder to start from.
    values = flags.FlagValues()
    pretrain.define_flags(values)
    values(["pretrain", *_command(folder, tmp_path / "out", *more)[2:]])
    with pytest.raises(SystemExit) as stop:
        pretrain.main([], values)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("pretrain: ") and message in error and error.count("\n") == 1
