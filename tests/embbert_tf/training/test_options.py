"""Averaged weights, distillation, texts without a label, and how a training resumes."""

import csv
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from embbert_tf import errors
from embbert_tf.data import batches, examples, files, soft_labels
from embbert_tf.model.classifier import EmbBertClassifier
from embbert_tf.model.config import PRESETS
from embbert_tf.storage import run_folder
from embbert_tf.training import distillation, fit, optimizer
from tests.support.runs import run_module, small_rows

LABELS = ["ask", "off", "on"]


def test_averages_follow_the_weights_and_leave_them_alone():
    weight = tf.Variable([1.0, -2.0])
    adam = optimizer.AdamW(0.1, weight_decay=0.0, ema=0.5)
    adam.build([weight])
    average = weight.numpy()
    for step in range(12):
        adam.apply_gradients([(tf.constant([1.0, -1.0]), weight)])
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight.numpy()
    last = weight.numpy()
    np.testing.assert_allclose(last, [1.0 - 1.2, -2.0 + 1.2], atol=1e-4)
    adam.finalize_variable_values([weight])
    np.testing.assert_array_equal(weight.numpy(), last)
    with adam.averaged([weight]):
        np.testing.assert_allclose(weight.numpy(), average, atol=1e-6)
    np.testing.assert_array_equal(weight.numpy(), last)


def test_decay_and_gradient_are_those_of_adamw():
    weights = [tf.Variable([1.0], name=name) for name in ("a", "bias")]
    adam = optimizer.AdamW(0.1, weight_decay=0.5)
    adam.exclude_from_weight_decay(var_names=["bias"])
    adam.apply_gradients([(tf.zeros([1]), w) for w in weights])
    np.testing.assert_allclose([w.numpy()[0] for w in weights], [0.95, 1.0], rtol=1e-6)
    restored = optimizer.AdamW.from_config(optimizer.AdamW(0.1, ema=0.5).get_config())
    assert restored.use_ema and restored.ema_momentum == 0.5


def test_loss_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3)).astype(np.float32)
    taught = distillation.softmax(rng.normal(size=(4, 3))).astype(np.float32)
    taught[3] = np.nan
    targets = np.array([0, 2, -1, 1])
    teaching = distillation.Teaching(taught, 0.3, 2.0)
    goal = distillation.goals(targets, LABELS, teaching)
    got = distillation.loss(LABELS, 0.1, 2.0)(tf.constant(goal), tf.constant(logits)).numpy()

    label = np.log(distillation.softmax(logits))
    own = [-0.9 * label[i, t] - 0.1 * label[i].mean() for i, t in enumerate(targets)]
    soft = np.sqrt(taught) / np.sqrt(taught).sum(1, keepdims=True)
    kl = (soft * (np.log(soft) - np.log(distillation.softmax(logits / 2)))).sum(1)
    expected = [0.7 * own[0] + 1.2 * kl[0], 0.7 * own[1] + 1.2 * kl[1], 1.2 * kl[2], own[3]]
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_loss_is_least_where_the_student_agrees():
    taught = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]], np.float32)
    goal = tf.constant(
        distillation.goals([-1, -1], LABELS, distillation.Teaching(taught, 1.0, 3.0))
    )
    logits = tf.constant(np.log(np.maximum(taught, 1e-30)))
    compute = distillation.loss(LABELS, 0.0, 3.0)
    np.testing.assert_allclose(compute(goal, logits), 0.0, atol=1e-5)
    assert (compute(goal, logits + tf.constant([100.0, 0.0, 0.0])).numpy() > 0.001).all()


def test_loss_of_a_regression():
    teaching = distillation.Teaching(np.array([[3.0], [np.nan], [1.0]], np.float32), 0.25)
    goal = distillation.goals([2.0, 4.0, np.nan], [], teaching)
    got = distillation.loss([], 0.0, 1.0)(tf.constant(goal), tf.constant([[1.0], [1.0], [3.0]]))
    np.testing.assert_allclose(got, [0.75 * 1 + 0.25 * 4, 9.0, 0.25 * 4])


def test_no_tuner_holds_up_the_end_of_an_epoch():
    made = batches.dataset([[2, 7]] * 4, np.arange(4), 2, 32, (0, 0))
    assert made.options().autotune.enabled is False


def _small_fit(checkpoint, epochs_before_the_kill=None, keep="best", shift=0, patience=4):
    keras.utils.set_random_seed(3)
    config = PRESETS["test"]
    model = EmbBertClassifier({**config.to_dict(), "dropout": 0.0}, 3, dropout=0.0)
    rng = np.random.default_rng(0)
    ids = [[2, *rng.integers(5, 250, rng.integers(1, 20))] for _ in range(60)]
    targets = np.array([int(i[1]) % 3 for i in ids[:50]] + [-1] * 10)
    taught = distillation.softmax(rng.normal(size=(60, 3))).astype(np.float32)

    made = batches.dataset

    def dataset(*arguments, **named):
        if arguments[4][1] == epochs_before_the_kill:
            raise InterruptedError
        return made(*arguments, **named)

    batches.dataset = dataset
    try:
        history = fit.fit(
            model, (ids, targets), (ids[:50], (targets[:50] + shift) % 3), checkpoint=checkpoint,
            label="t", epochs=4, batch_size=8, learning_rate=1e-2, weight_decay=0.05, max_length=32,
            labels=LABELS, token_dropout=0.1, vocab_size=256, ema=0.9, patience=patience,
            teaching=distillation.Teaching(taught, 0.5, 2.0), keep=keep,
        )  # fmt: skip
    except InterruptedError:
        return None
    finally:
        batches.dataset = made
    return history, model.get_weights()


def test_a_resumed_training_is_the_same_training(tmp_path):
    history, weights = _small_fit(tmp_path / "a.npz")
    assert _small_fit(tmp_path / "b.npz", epochs_before_the_kill=2) is None
    again, resumed = _small_fit(tmp_path / "b.npz")
    assert [h["best"] for h in again] == [h["best"] for h in history]
    np.testing.assert_allclose([h["loss"] for h in again], [h["loss"] for h in history], rtol=1e-4)
    for a, b in zip(weights, resumed, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_kept_weights_are_the_averaged_ones(tmp_path):
    history, weights = _small_fit(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as state:
        last = [state[f"m{i}"] for i in range(len(weights))]
        best = [state[f"b{i}"] for i in range(len(weights))]
    assert any(h["best"] for h in history)
    for kept, expected in zip(weights, best, strict=True):
        np.testing.assert_array_equal(kept, expected)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(best, last, strict=True))


def test_the_last_epoch_stays_if_asked_for(tmp_path):
    # Measured by other classes than it learns, a model gets worse.
    history, best = _small_fit(tmp_path / "a.npz", shift=1)
    again, last = _small_fit(tmp_path / "b.npz", keep="last", shift=1, patience=1)
    assert again == history and not history[-1]["best"]
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(best, last, strict=True))
    with np.load(tmp_path / "a.npz") as state:
        moving = [state[f"m{i}"] for i in range(len(last))]
    # The average of the last epoch lies nearer to where the last step went than the best one's.
    distances = [
        np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(kept, moving, strict=True)))
        for kept in (last, best)
    ]
    assert distances[0] < 0.5 * distances[1]


# ---- Through the command ------------------------------------------------------------------------


def write(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


TRAIN = ["--preset=test", "--epochs=12", "--learning_rate=0.01", "--token_dropout=0"]


@pytest.fixture(scope="module")
def wrong_csv(tmp_path_factory):
    """The training texts, each with the label of another class."""
    after = {"on": "off", "off": "ask", "ask": "on"}
    rows = [("text", "label"), *((text, after[label]) for text, label in small_rows())]
    return write(tmp_path_factory.mktemp("wrong") / "wrong.csv", rows)


def measured(path):
    return json.loads((path / run_folder.METRICS).read_text())["fp32"]["test"]["accuracy"]


def test_a_run_with_the_same_labels_hands_down_its_head(tmp_path, tiny_run, small_csv):
    started = run_folder.load_run(tiny_run)
    # At a rate of 0 what comes out is what it started from.
    flags = ["--epochs=1", "--learning_rate=0", f"--init={tiny_run}"]
    done = run_module(
        "embbert_tf.train", *flags, f"--train={small_csv}", f"--output={tmp_path / 'same'}"
    )
    assert done.returncode == 0, done.stderr
    assert "its head is kept" in done.stdout
    same = run_folder.load_run(tmp_path / "same").model.get_weights()
    for got, expected in zip(same, started.model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)

    other = tmp_path / "other.csv"
    other.write_text(small_csv.read_text().replace(",ask\n", ",query\n"))
    done = run_module(
        "embbert_tf.train", *flags, f"--train={other}", f"--output={tmp_path / 'other'}"
    )
    assert done.returncode == 0, done.stderr
    assert "its head is kept" not in done.stdout
    model = run_folder.load_run(tmp_path / "other").model
    assert np.abs(model.head.kernel.numpy() - started.model.head.kernel.numpy()).max() > 0.01
    np.testing.assert_array_equal(
        model.backbone.get_weights()[0], started.model.backbone.get_weights()[0]
    )


def test_soft_labels_of_any_teacher_teach(tmp_path, small_csv):
    few = write(tmp_path / "few.csv", [("text", "label"), ("start it", "on"), ("stop it", "off"),
                                       ("what is it", "ask"), ("which is it", "ask")])  # fmt: skip
    rows = [("on", "text", "ask", "off")]
    for text, label in small_rows():
        rows.append((*(0.9 if label == "on" else 0.05,), text,
                     0.9 if label == "ask" else 0.05, 0.9 if label == "off" else 0.05))  # fmt: skip
    soft = write(tmp_path / "soft.csv", rows)
    held = write(tmp_path / "held.csv", [("text", "label"), *small_rows()[::5]])
    command = [
        f"--train={few}", f"--valid={held}", *TRAIN, f"--output={tmp_path / 'run'}",
        f"--soft_labels={soft}", "--teacher_weight=0.9", "--vocab_size=120",
    ]  # fmt: skip
    done = run_module("embbert_tf.train", *command, f"--test={held}", "--ema=0.9")
    assert done.returncode == 0, done.stderr
    assert "4 texts to train on and 144 without a label" in done.stdout
    assert measured(tmp_path / "run") > 0.9


@pytest.mark.parametrize(
    "content, words",
    [
        ("text,on,off\na,1,0\n", "no column 'ask'"),
        ("text,on,off,ask\na,1,0,no\n", ":2:"),
        ("text,on,off,ask\na,0.2,0.3,0.5\nb,5,-3,1\n", "softmax"),
        ("text,on,off,ask\n", "no rows"),
        ("text,text_pair,on,off,ask\na,b,1,0,0\n", "pairs"),
        ("text,on,off,ask\na,1,0\n", "3 fields"),
    ],
)
def test_bad_soft_labels_are_named(tmp_path, content, words):
    path = tmp_path / "soft.csv"
    path.write_text(content)
    with pytest.raises(errors.DataError, match=r"soft\.csv") as error:
        soft_labels.read_soft_labels(path, LABELS, pair=False)
    assert words in str(error.value)


def test_soft_labels_of_pairs_and_scores(tmp_path):
    path = tmp_path / "soft.csv"
    path.write_text("score,text_pair,text\n3.5,b,a\n")
    assert soft_labels.read_soft_labels(path, [], pair=True) == {("a", "b"): [3.5]}


def test_unlabelled_texts_are_drawn_once_and_never_from_the_data(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"text {i}\n" for i in range(100)))
    known = {(f"text {i}", None) for i in range(50)}
    drawn = [[e.text for e in soft_labels.read_unlabelled([path], 20, s, known)] for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 20
    assert all((text, None) not in known for text in drawn[0])
    assert len(soft_labels.read_unlabelled([path], 0, 0, known)) == 50
    with pytest.raises(errors.DataError, match=r"texts\.txt"):
        soft_labels.read_unlabelled([path], 0, 0, {(f"text {i}", None) for i in range(100)})
    with pytest.raises(errors.CorpusError, match=r"missing\.txt"):
        soft_labels.read_unlabelled([tmp_path / "missing.txt"], 0, 0, set())


@pytest.mark.parametrize(
    "recorded, difference",
    [
        ({}, None),
        ({"steps": "learnt", "consistency": 0.0}, None),  # What runs of yesterday recorded.
        ({"steps": "average"}, "steps"),
        ({"consistency": 0.4}, "consistency"),
        (
            {"steps": "average", "consistency": 0.4, "rounding": "up"},
            "consistency, rounding, steps",
        ),
    ],
)
def test_a_qat_with_options_since_removed_loads_and_says_how_it_differs(
    tmp_path, tiny_run, small_csv, recorded, difference
):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    settings = files.read_json(path / "qat.json")["qat"]
    files.write_json(path / "qat.json", {"qat": settings | recorded})
    assert run_folder.load_run(path).qat_model is not None
    command = [f"--run={path}", f"--train={small_csv}", "--epochs=2", "--samples=64"]
    done = run_module("embbert_tf.qat", *command)
    if difference is None:
        assert done.returncode == 0 and "finished already" in done.stdout
    else:
        assert done.returncode == 1
        assert f"with other {difference};" in done.stderr and "Traceback" not in done.stderr


def test_a_qat_from_before_its_options_counts_as_one_without_them(tmp_path, tiny_run, small_csv):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    settings = files.read_json(path / "qat.json")
    later = ("self_distill", "keep", "unlabelled_count")
    assert [settings["qat"].pop(name) for name in later] == [0.5, "best", 0]
    assert settings["qat"].pop("unlabelled_sha256") == []
    files.write_json(path / "qat.json", settings)
    done = run_module(
        "embbert_tf.qat", f"--run={path}", f"--train={small_csv}", "--epochs=2", "--samples=64"
    )
    assert done.returncode == 1
    assert "with other self_distill, steps;" in done.stderr


def test_a_training_with_options_since_removed_loads(tmp_path, tiny_run, small_csv):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    settings = run_folder.read_settings(path)
    settings["training"] |= {"rare_words": 0.5, "teacher_sha256": ["0" * 64], "layer_decay": 0.9}
    files.write_json(path / run_folder.CONFIG, settings)
    assert run_folder.load_run(path).model is not None
    done = run_module("embbert_tf.train", f"--train={small_csv}", f"--output={path}", *TRAIN)
    assert done.returncode == 1
    assert "other layer_decay, rare_words, teacher_sha256;" in done.stderr


def test_qat_of_a_run_without_validation_rows_asks_for_them(tmp_path, tiny_run, small_csv):
    path = tmp_path / "imported"
    shutil.copytree(tiny_run, path)
    for name in ("valid.csv", "ranges.json", "qat.json", "qat.keras"):
        (path / name).unlink(missing_ok=True)
    command = [f"--run={path}", f"--train={small_csv}", "--epochs=1"]
    done = run_module("embbert_tf.qat", *command)
    assert done.returncode == 1
    assert "the run has no validation rows" in done.stderr and "--valid" in done.stderr
    assert not (path / "qat.json").exists()
    empty = tmp_path / "empty.csv"
    empty.write_text("text,label\n")
    done = run_module("embbert_tf.qat", *command, f"--valid={empty}")
    assert done.returncode == 1 and f"{empty}: no rows" in done.stderr
    assert not (path / "valid.csv").exists()

    rows = list(examples.read_examples(small_csv))
    held_out = tmp_path / "held_out.csv"
    examples.write_csv(held_out, rows[::9])
    done = run_module("embbert_tf.qat", *command, f"--valid={held_out}")
    assert done.returncode == 0, done.stderr
    assert list(examples.read_examples(path / "valid.csv")) == rows[::9]

    for name in ("ranges.json", "qat.json"):
        (path / name).unlink()
    done = run_module("embbert_tf.qat", *command, f"--valid={small_csv}")
    assert done.returncode == 1
    assert "with these rows held out" in done.stderr


def test_qat_learns_from_texts_without_a_label_what_the_run_says_of_them(
    tmp_path, tiny_run, small_csv, wrong_csv
):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    for name in ("ranges.json", "qat.json", "qat.keras"):
        (path / name).unlink()
    texts, few = tmp_path / "more.txt", tmp_path / "few.csv"
    texts.write_text("".join(f"{text}\n" for text, _ in small_rows()))
    # With these labels alone the model would unlearn its task.
    held = {(e.text, e.text_pair) for e in examples.read_examples(path / "valid.csv")}
    rows = [e for e in examples.read_examples(wrong_csv) if (e.text, e.text_pair) not in held]
    examples.write_csv(few, rows[:20])
    command = [
        f"--run={path}", f"--train={few}", "--samples=64", "--epochs=4", "--learning_rate=0.003",
        "--self_distill=0.9", f"--unlabelled={texts}",
    ]  # fmt: skip
    done = run_module("embbert_tf.qat", *command)
    assert done.returncode == 0, done.stderr
    # Neither those of the labelled texts nor those that choose the epoch.
    known = {e.text for e in rows[:20]} | {text for text, _ in held}
    count = sum(text not in known for text, _ in small_rows())
    assert f"20 texts with a label, {count} without" in done.stdout
    assert files.read_json(path / run_folder.METRICS)["qat"]["valid"]["accuracy"] > 0.9

    texts.write_text("others\n")
    done = run_module("embbert_tf.qat", *command)
    assert done.returncode == 1
    assert "with other unlabelled_sha256;" in done.stderr


@pytest.mark.parametrize(
    "pair, options, words",
    [
        (False, ["--unlabelled=/nowhere.txt"], "/nowhere.txt: cannot be opened"),
        (False, ["--unlabelled=TEXTS", "--self_distill=0"], "--self_distill above 0"),
        (False, ["--unlabelled=TEXTS"], "no text beside"),
        (True, ["--unlabelled=TEXTS"], "trained on pairs"),
    ],
)
def test_qat_says_what_texts_without_a_label_are_of_no_use(
    tmp_path, tiny_run, small_csv, pair, options, words
):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    for name in ("ranges.json", "qat.json", "qat.keras"):
        (path / name).unlink()
    settings = files.read_json(path / run_folder.CONFIG)
    files.write_json(path / run_folder.CONFIG, settings | {"pair": pair})
    texts = tmp_path / "more.txt"
    texts.write_text("".join(f"{text}\n" for text, _ in small_rows()))
    options = [option.replace("TEXTS", str(texts)) for option in options]
    done = run_module("embbert_tf.qat", f"--run={path}", f"--train={small_csv}", *options)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (path / "qat.json").exists()
