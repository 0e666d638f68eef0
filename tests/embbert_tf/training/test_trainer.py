"""Training from files: what is read first, every kind of task, what a run starts from."""

import csv
import json
import shutil

import numpy as np
import pytest

import embbert_tf
from embbert_tf import errors
from embbert_tf.data import batches, encoding, examples, files
from embbert_tf.model.classifier import EmbBertClassifier
from embbert_tf.model.config import PRESETS
from embbert_tf.storage import run_folder
from embbert_tf.training import score_scale
from tests.support.runs import run_command, small_rows


def write(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


# As the fixture `tiny_run` was trained.
TRAIN = [
    "--preset=test", "--epochs=12", "--learning_rate=0.01", "--token_dropout=0", "--keep=last"
]  # fmt: skip


def measured(path):
    return json.loads((path / run_folder.METRICS).read_text())["fp32"]["test"]["accuracy"]


@pytest.mark.slow
def test_a_run_with_the_same_labels_hands_down_its_head(tmp_path, tiny_run, small_csv, eager):
    started = run_folder.load_run(tiny_run)
    # At a rate of 0 what comes out is what it started from.
    flags = ["--epochs=1", "--learning_rate=0", f"--init={tiny_run}"]
    done = run_command(
        "embbert_tf.train", *flags, f"--train={small_csv}", f"--output={tmp_path / 'same'}"
    )
    assert done.returncode == 0, done.stderr
    assert "its head is kept" in done.stdout
    same = run_folder.load_run(tmp_path / "same").model.get_weights()
    for got, expected in zip(same, started.model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)

    other = tmp_path / "other.csv"
    other.write_text(small_csv.read_text().replace(",ask\n", ",query\n"))
    done = run_command(
        "embbert_tf.train", *flags, f"--train={other}", f"--output={tmp_path / 'other'}"
    )
    assert done.returncode == 0, done.stderr
    assert "its head is kept" not in done.stdout
    model = run_folder.load_run(tmp_path / "other").model
    assert np.abs(model.head.kernel.numpy() - started.model.head.kernel.numpy()).max() > 0.01
    np.testing.assert_array_equal(
        model.backbone.get_weights()[0], started.model.backbone.get_weights()[0]
    )


@pytest.mark.slow
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
    done = run_command("embbert_tf.train", *command, f"--test={held}", "--ema=0.9")
    assert done.returncode == 0, done.stderr
    assert "4 texts to train on and 144 without a label" in done.stdout
    assert measured(tmp_path / "run") > 0.9


@pytest.mark.slow
def test_a_training_with_options_since_removed_loads(tmp_path, tiny_run, small_csv):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    settings = run_folder.read_settings(path)
    settings["training"] |= {"rare_words": 0.5, "teacher_sha256": ["0" * 64], "layer_decay": 0.9}
    files.write_json(path / run_folder.CONFIG, settings)
    assert run_folder.load_run(path).model is not None
    done = run_command("embbert_tf.train", f"--train={small_csv}", f"--output={path}", *TRAIN)
    assert done.returncode == 1
    assert "other layer_decay, rare_words, teacher_sha256;" in done.stderr


# ---- What is read before the first step ----------------------------------------------------------

ROWS = "text,label\n" + "a lamp,on\nthe fan,off\n" * 10
SCORES = "text,label\n" + "".join(f"word {i % 3},{i % 7}\n" for i in range(30))
PAIRS = "text,text_pair,label\n" + "a,b,on\nc,d,off\n" * 10


def refused(monkeypatch, tmp_path, contents: dict, **options) -> str:
    """Returns the message of a training that must end before it writes or trains anything.

    Args:
        monkeypatch: Of the test.
        tmp_path: Of the test.
        contents: Argument of `train` to the bytes of the file that is given for it.
        **options: Of `TrainOptions`; `{}` stands for the folder of the files.
    """
    from embbert_tf.training import fit

    monkeypatch.setattr(fit, "fit", lambda *_, **__: pytest.fail("it has trained"))
    given = {}
    for name, content in ({"train": ROWS} | contents).items():
        given[name] = tmp_path / f"{name}.csv"
        given[name].write_bytes(content if isinstance(content, bytes) else content.encode())
    options = {
        name: value.format(tmp_path) if isinstance(value, str) else value
        for name, value in options.items()
    }
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(errors.EmbBertError) as caught:
        embbert_tf.train(
            given.pop("train"),
            output=tmp_path / "run",
            options=embbert_tf.TrainOptions(preset="test", **options),
            **given,
        )
    assert sorted(tmp_path.rglob("*")) == before
    return str(caught.value)


@pytest.mark.parametrize("name", ["valid", "test"])
@pytest.mark.parametrize(
    "content, words",
    [
        (ROWS + "more,other\n", ".csv:22: label 'other' does not occur"),
        (ROWS.encode() + b"more \xff,on\n", ".csv:22: byte 0xff"),
        (ROWS + "more,\n", ".csv:22: empty label"),
        (ROWS + "more,on,and\n", ".csv:22: 3 fields"),
        ("text,label\n", ".csv:1: no rows"),
        (PAIRS, ".csv:1: the rows are pairs of texts, the model is trained on single texts"),
    ],
    ids=["label", "byte", "empty", "fields", "rows", "pairs"],
)
def test_every_file_is_read_whole(monkeypatch, tmp_path, name, content, words):
    assert f"{name}{words}" in refused(monkeypatch, tmp_path, {name: content})


@pytest.mark.parametrize(
    "contents, options, words",
    [
        ({"train": ROWS + "late,\n"}, {}, "train.csv:22: empty label"),
        ({"train": ROWS + 'x,"two\nlines"\n'}, {}, "train.csv:22: the label 'two"),
        ({"train": PAIRS, "test": ROWS}, {}, "the rows are single texts, the model"),
        ({"train": "text,label\na,x\nb,y\n"}, {}, "too few rows to hold some out"),
        ({"train": SCORES + "late,good\n"}, {"task": "regression"}, "train.csv:32: label 'good'"),
        ({"train": SCORES + "late,inf\n"}, {"task": "regression"}, "train.csv:32: label 'inf'"),
        ({"train": SCORES + "late,1e99\n"}, {"task": "regression"}, "train.csv:32: label"),
        (
            {"train": SCORES, "test": SCORES + "late,good\n"},
            {"task": "regression"},
            "test.csv:32: label 'good' is not a number",
        ),
        (
            {"train": "text,label\n" + "a,2.5\nb,2.50\n" * 9},
            {"task": "regression"},
            "train.csv: every row has the score 2.5",
        ),
        (
            {"train": SCORES, "valid": "text,label\na,1\nb,1\n"},
            {"task": "regression"},
            "valid.csv: the 2 rows of a validation file have one score",
        ),
        (
            {"train": "text,label\n" + "".join(f"w,{i}\n" for i in range(12))},
            {"task": "regression"},
            "train.csv: the 1 row held out have one score",
        ),
        ({}, {"tokenizer": "{}/train.csv"}, "train.csv: not a readable tokenizer.json"),
        ({}, {"tokenizer": "{}/none.json"}, "none.json: not a readable tokenizer.json"),
        ({}, {"init": "{}/none"}, "none: no such run folder"),
        ({}, {"init": "{}"}, "config.json is missing"),
        ({}, {"soft_labels": "{}/none.csv"}, "none.csv: cannot be opened"),
        ({}, {"soft_labels": "{}/train.csv"}, "no column 'off' in the header"),
        ({}, {"vocab_size": 5}, "vocab_size must be above 5"),
    ],
)
def test_every_input_is_checked(monkeypatch, tmp_path, contents, options, words):
    assert words in refused(monkeypatch, tmp_path, contents, **options)


def test_an_output_that_cannot_be_a_folder_is_refused(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(ROWS)
    for output in (path, path / "run"):
        with pytest.raises(errors.FileError, match="cannot be a folder"):
            embbert_tf.train(path, output=output)


def test_labels_that_look_alike_are_warned_of(monkeypatch, tmp_path):
    with pytest.warns(errors.EmbBertWarning, match="'ON' .* differ only in case"):
        refused(monkeypatch, tmp_path, {"train": ROWS + "b,ON\n", "test": "text,label\n"})


# ---- Every kind of task --------------------------------------------------------------------------

QUICK = {"preset": "test", "learning_rate": 0.01, "token_dropout": 0.0}


def scored_texts() -> list[tuple[str, int]]:
    """120 texts, and how much good they say: -2 to 4."""
    rng = np.random.default_rng(0)
    words = {"good": 2, "fair": 1, "film": 0, "poor": -1}
    texts = [rng.choice(list(words), 2) for _ in range(120)]
    return [(f"a {a} and {b} one", words[a] + words[b]) for a, b in texts]


@pytest.mark.slow
def test_a_regression_answers_in_the_unit_of_its_scores(tmp_path):
    path = tmp_path / "scores.csv"
    targets = np.array([300 - 250 * s for _, s in scored_texts()])  # -700 to 800
    write(path, [("text", "label"), *((t, 300 - 250 * s) for t, s in scored_texts())])
    run = embbert_tf.train(
        path, test=path, output=tmp_path / "run",
        options=embbert_tf.TrainOptions(task="regression", epochs=15, **QUICK),
    )  # fmt: skip
    run = embbert_tf.train_quantized(
        run, path, embbert_tf.QatOptions(epochs=1, samples=64), test=path
    )
    ids = encoding.encode_all(
        run.tokenizer, examples.read_all(path), run.pair, run.config.max_length
    )
    for stage, model in (("fp32", run.model), ("qat", run.qat_model)):
        assert run.metrics[stage]["test"]["pearson"] > 0.9
        answers = batches.predict(model, ids)[:, 0]
        # In the unit, not only in the right order.
        assert np.sqrt(np.mean((answers - targets) ** 2)) < 0.45 * np.std(targets)
    low, high = run.ranges["logits"]
    # The zero point of the int8 grid is a whole number, which moves the grid by up to half a step.
    half = (high - low) / 255 / 2
    assert low - half <= min(answers) < max(answers) <= high + half and high - low < 4000


def test_a_head_goes_to_standard_units_and_back():
    model = EmbBertClassifier(PRESETS["test"], 1)
    before = model.head.get_weights()
    scale = score_scale.ScoreScale.of(np.array([-700.0, 50.0, 800.0]), "scores.csv")
    scale.standardize_head(model.head)
    assert np.abs(model.head.get_weights()[0] - before[0] / scale.spread).max() < 1e-9
    scale.restore_head(model.head)
    for got, expected in zip(model.head.get_weights(), before, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)


def test_scores_far_from_zero_are_warned_of():
    assert score_scale.coarse_in_int8(np.array([1000.0, 1004.0, 1010.0])).startswith(
        "the scores lie between 1000 and 1010"
    )
    for scores in ([0.0, 5.0, 2.5], [-1e-3, 0.0, 1e-3], [0.0, 1000.0], [-8.0, -1.0]):
        assert score_scale.coarse_in_int8(np.array(scores)) is None


def test_scores_that_all_differ_are_held_out_evenly():
    rows = [examples.Example(f"t{i}", None, str(i / 7)) for i in range(100)]
    kept, held = examples.split(rows, 0.1, 0, scores=True)
    assert len(held) == 10 and len(kept) == 90 and not {*kept} & {*held}
    assert all(10 * i <= rows.index(e) < 10 * i + 10 for i, e in enumerate(held))


@pytest.mark.slow
def test_pairs_with_a_label_or_a_score_of_any_length(tmp_path, eager):
    same = [("red", "red"), ("blue sea", "the blue sea"), ("green " * 10_000, "green")]
    other = [("red", "blue"), ("sea " * 10_000, "red red"), ("green", "the sea")]
    for task, names in (("classification", ("same", "other")), ("regression", ("4.5", "-1"))):
        path = tmp_path / f"{task}.csv"
        rows = [(*pair, names[0]) for pair in same] + [(*pair, names[1]) for pair in other]
        write(path, [("text", "text_pair", "label"), *(rows * 5)])
        run = embbert_tf.train(
            path, test=path, output=tmp_path / task,
            options=embbert_tf.TrainOptions(task=task, epochs=2, **QUICK),
        )  # fmt: skip
        assert (run.pair, run.task) == (True, task)
        assert run.metrics["fp32"]["test"]["count"] == 30
        wanted = {"pearson", "spearman"} if task == "regression" else {"accuracy", "macro_f1"}
        assert wanted <= run.metrics["fp32"]["test"].keys()


@pytest.mark.slow
def test_five_hundred_labels(tmp_path, capsys, eager):
    path = tmp_path / "many.csv"
    rows = [(f"item {i // 25} {i % 25}", f"label {i}") for i in range(500) for _ in range(3)]
    write(path, [("text", "label"), *rows])
    run = embbert_tf.train(
        path, test=path, output=tmp_path / "run",
        options=embbert_tf.TrainOptions(epochs=1, batch_size=128, **QUICK),
    )  # fmt: skip
    assert len(run.labels) == run.model.num_labels == 500
    assert len(examples.read_all(tmp_path / "run" / "valid.csv")) == 150
    assert len(run.metrics["fp32"]["test"]["classes"]) == 500
    assert "and 460 classes with a higher F1" in capsys.readouterr().out
