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
from tensorflow.python.framework import config as framework_config

from embbert_tf import errors
from embbert_tf.data.tokenizer import load_tokenizer, train_tokenizer
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.pretraining import batches as batches_lib
from embbert_tf.pretraining import corpus, pretrain
from embbert_tf.pretraining import model as model_lib
from embbert_tf.pretraining import trainer as trainer_lib
from embbert_tf.pretraining.options import PretrainOptions
from embbert_tf.storage import backbone_folder
from tests.support.runs import run_command

CONFIG = EmbBertConfig(
    vocab_size=120,
    max_length=32,
    hidden_size=16,
    reduced_size=8,
    num_layers=1,
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


def _options(**more):
    # What the checkpoint holds is kept as it is, so that processes can be compared.
    defaults = {"batch_tokens": 256, "lengths": (16,), "checkpoint_steps": 4, "log_steps": 5}
    defaults["ema"] = 0.0
    return PretrainOptions(**{**SETTINGS, **defaults, **more})


def _batches(folder, options):
    text = corpus.load_or_tokenize(
        [folder / "text.txt"], load_tokenizer(folder / "tokenizer.json"), folder / "cache"
    )
    vocab_size = load_tokenizer(folder / "tokenizer.json").get_vocab_size()
    return batches_lib.Batches(text, vocab_size, options)


def _train(folder, output, resume=False, **more):
    options = _options(seed=3, **more)
    trainer = trainer_lib.Trainer(CONFIG, options, tf.distribute.get_strategy())
    output.mkdir(exist_ok=True)
    if resume:
        trainer.restore(output / trainer_lib.CHECKPOINT, "key")
    return trainer, trainer_lib.run_training(trainer, _batches(folder, options), output, "key")


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


@pytest.mark.slow
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
    with pytest.raises(errors.RunError, match="other settings"):
        trainer.restore(path, "another key")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(errors.RunError, match="delete it"):
        trainer.restore(path, "key")


def test_loss_counts_masked_positions_and_pairs_alone(folder):
    batches = _batches(folder, _options(steps=1))
    batch = batches.part(0)
    tf.random.set_seed(0)
    model = model_lib.EmbBertPretrainer(CONFIG)
    loss, sums = model_lib.losses(
        model, dataclasses.astuple(batch), len(batch.ids), PretrainOptions()
    )
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
    options = PretrainOptions(steps=100, learning_rate=1.0, warm_up=10)
    assert options.rate(0) == pytest.approx(0.1) and options.rate(9) == 1.0
    assert options.rate(55) == pytest.approx(0.5) and options.rate(99) == pytest.approx(1 / 90)


def _arguments(folder, output, *more):
    return [
        *(f"--input={folder / 'text.txt'}", f"--output={output}", f"--init={folder / 'start'}"),
        *("--steps=14", "--learning_rate=0.01", "--warm_up=3", "--seed=3", "--lengths=16"),
        *("--batch_tokens=256", "--checkpoint_steps=4", "--log_steps=5", "--ema=0", *more),
    ]


def _command(folder, output, *more):
    return ["-m", "embbert_tf.pretrain", *_arguments(folder, output, *more)]


@pytest.fixture(scope="module", name="single")
def _single(folder):
    """Weights of one process at the kill and at the end, from `start`'s backbone."""
    options = _options(seed=3)
    first = dataclasses.replace(options, stop_after=4)
    trainer = trainer_lib.Trainer(CONFIG, first, tf.distribute.get_strategy())
    backbone_folder.save_backbone(
        folder / "start", trainer.model.backbone, folder / "tokenizer.json", {"test": True}
    )
    batches = _batches(folder, options)
    (folder / "single").mkdir()
    trainer_lib.run_training(trainer, batches, folder / "single", "key")
    early = [v.numpy() for v in trainer._variables]
    trainer.options = options
    trainer_lib.run_training(trainer, batches, folder / "single", "key")
    return early, [v.numpy() for v in trainer._variables]


def _assert_close(path, expected):
    with np.load(path) as arrays:
        got = [arrays[f"variable_{index}"] for index in range(len(expected))]
    # The first of the optimizer's variables count steps and hold the rate.
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


@pytest.mark.slow
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
import os, signal
from embbert_tf import cli, pretrain
from embbert_tf.pretraining import trainer
step = trainer.Trainer.train
def train(self, batch, rows):
    if self.step == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, rows)
trainer.Trainer.train = train
cli.run(pretrain.define_flags, pretrain.main)
"""


@pytest.mark.slow
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


@pytest.mark.slow
def test_goes_on_when_started_again_and_leaves_a_finished_one_alone(
    folder, single, tmp_path, capsys
):
    """As the command; what it prints, and the weights of the loop above."""
    output = tmp_path / "out"

    def start(**more):
        options = _options(seed=3, **more)
        inputs = [folder / "text.txt"]
        model = pretrain.pretrain(inputs, output=output, init=folder / "start", options=options)
        return model, capsys.readouterr().out

    try:
        model, said = start(stop_after=4)
        assert model is None and "from step 0" in said and "backbone written" not in said
        _assert_close(output / trainer_lib.CHECKPOINT, single[0])
        model, said = start()
        assert "from step 4" in said and f"{output}: backbone written" in said
        _assert_close(output / trainer_lib.CHECKPOINT, single[1])
        np.testing.assert_allclose(model.get_weights()[0], single[1][0], rtol=0, atol=2e-5)
        settings = (output / "config.json").read_text()
        assert json.loads(settings)["origin"]["pretrained"]["steps"] == SETTINGS["steps"]
        _, said = start()
        assert "finished already" in said
        assert (output / "config.json").read_text() == settings
        with pytest.raises(errors.RunError, match="other settings"):
            start(weight_decay=0.5)
    finally:
        framework_config.disable_op_determinism()


@pytest.mark.slow
def test_trains_a_tokenizer_where_none_is_given(folder, tmp_path):
    options = _options(preset="test", vocab_size=60, steps=1)
    try:
        model = pretrain.pretrain([folder / "text.txt"], output=tmp_path / "out", options=options)
    finally:
        framework_config.disable_op_determinism()
    loaded = backbone_folder.load_backbone(tmp_path / "out")
    assert loaded.tokenizer.get_vocab_size() <= loaded.config.vocab_size == 60
    np.testing.assert_array_equal(loaded.model.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lengths=16,x"], "--lengths=16,x: expected a list of int"),
        (["--lengths=64"], "above the model's longest"),
        (["--lengths=300"], "longer than a batch"),
        (["--input=none.txt"], "none.txt"),
        (["--input="], "no text file is given"),
        (["--vocab_size=60"], "vocab_size does not go with init"),
        (["--init=none"], "none"),
        (["--tokenizer=none.json"], "none.json"),
    ],
)
def test_errors_in_one_line_before_anything_is_written(folder, single, tmp_path, more, message):
    del single  # It makes the folder to start from.
    done = run_command("embbert_tf.pretrain", *_arguments(folder, tmp_path / "out", *more))
    assert done.returncode == 1
    assert done.stderr.startswith("pretrain: ") and message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_models_folder_is_left_alone(folder, single, tmp_path):
    done = run_command("embbert_tf.pretrain", *_arguments(folder, folder / "start"))
    assert done.returncode == 1 and "holds a model already" in done.stderr
    (tmp_path / "file").touch()
    done = run_command("embbert_tf.pretrain", *_arguments(folder, tmp_path / "file"))
    assert done.returncode == 1 and "file" in done.stderr and done.stderr.count("\n") == 1
