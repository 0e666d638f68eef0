"""`converters.convert` and `converters.Model`: one after the other, for every kind of task."""

import json
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest

import converters
from converters.evaluation import evaluation
from converters.tflite import model_folder, reader
from embbert_tf import errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.model.config import PRESETS, EmbBertConfig
from embbert_tf.quantization import folding
from embbert_tf.storage import run_folder
from tests.support.runs import ROOT

WORDS = [
    "light",
    "lamp",
    "music",
    "heating",
    "door",
    "radio",
    "window",
    "fan",
    "kitchen",
    "hall",
    "cellar",
    "office",
]
LENGTH = 16


def write_rows(path, labels: int, pair: bool, count: int = 60):
    """A CSV file of one kind of task; `labels` of 0 writes scores."""
    rng = random.Random(0)

    def text():
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))

    lines = ["text,text_pair,label" if pair else "text,label"]
    for number in range(max(count, labels)):
        label = f"class {number % labels}" if labels else f"{number % 11 / 2}"
        lines.append(",".join([text(), text(), label] if pair else [text(), label]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_run(folder, labels: int, pair: bool) -> run_folder.Run:
    """An untrained run, with weights that make its logits differ."""
    keras = pytest.importorskip("tensorflow").keras
    from embbert_tf.model.classifier import EmbBertClassifier

    tokenizer = tokenizer_lib.train_tokenizer([" ".join(WORDS)] * 5, 120)
    fields = PRESETS["test"].to_dict() | {"vocab_size": tokenizer.get_vocab_size()}
    keras.utils.set_random_seed(1)
    model = EmbBertClassifier(EmbBertConfig.from_dict(fields), num_labels=max(labels, 1))
    model.head.kernel.assign(keras.backend.random_normal(model.head.kernel.shape))
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return run_folder.Run(
        path=folder,
        config=model.config,
        task="classification" if labels else "regression",
        pair=pair,
        labels=[f"class {i}" for i in range(labels)],
        tokenizer=tokenizer,
        model=model,
        qat_model=None,
        ranges=None,
        metrics={},
    )


KINDS = [(2, False), (500, False), (3, True), (0, False), (0, True)]
IDS = ["two labels", "500 labels", "pair", "score", "pair with a score"]


@pytest.fixture(scope="module", params=KINDS, ids=IDS)
def converted(request, tmp_path_factory):
    """(run, CSV file, model) of each kind of task."""
    labels, pair = request.param
    folder = tmp_path_factory.mktemp("a folder")
    csv = write_rows(folder / "rows.csv", labels, pair)
    run = make_run(folder / "run", labels, pair)
    options = converters.ConvertOptions(max_length=LENGTH, count=32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", converters.CalibrationWarning)
        model = converters.convert(run, calibration=csv, recipe="mse", options=options)
    return run, csv, model


def test_every_kind_of_task_is_converted_saved_and_answers(converted, tmp_path):
    run, csv, model = converted
    saved = model.save(tmp_path / "model")
    loaded = converters.load_model(tmp_path / "model")
    assert loaded.tflite == model.tflite == (tmp_path / "model" / "model.tflite").read_bytes()
    assert (tmp_path / "model" / "tokenizer.json").read_bytes() == (
        run.path / "tokenizer.json"
    ).read_bytes()
    assert (loaded.labels, loaded.pair, loaded.task) == (run.labels, run.pair, run.task)
    assert saved.tflite_path == loaded.tflite_path
    example = next(examples_lib.read_examples(csv))
    answer = model.classify(example.text, example.text_pair)
    assert answer == loaded.classify(example.text, example.text_pair)
    if run.labels:
        assert answer.score is None
        assert list(answer.probabilities) == run.labels
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.confidence == max(answer.probabilities.values())
        assert answer.probabilities[answer.label] == answer.confidence
    else:
        assert (answer.label, answer.confidence, answer.probabilities) == (None, None, {})


def test_answers_are_those_of_the_float_model(converted):
    run, csv, model = converted
    folded = folding.fold(run.model)
    exact, found = [], []
    for example in list(examples_lib.read_examples(csv))[:30]:
        answer = model.classify(example.text, example.text_pair)
        logits = folding.forward(folded, model.encode(example.text, example.text_pair))
        if run.labels:
            # Logits without what softmax cancels.
            exact.append(logits - np.log(np.exp(logits).sum()))
            found.append(np.log(list(answer.probabilities.values())))
        else:
            exact.append(logits)
            found.append([answer.score])
    exact, found = np.array(exact), np.array(found)
    assert np.sqrt(np.mean((exact - found) ** 2)) < 0.35 * exact.std()


def test_evaluation_is_that_of_the_task(converted):
    run, csv, model = converted
    measured = model.evaluate(csv, limit=40, seed=3, workers=1)
    assert measured["count"] == 40
    assert ("accuracy" in measured) == bool(run.labels)
    assert ("pearson" in measured and "spearman" in measured) == (not run.labels)
    assert measured == model.evaluate(csv, limit=40, seed=3)


def test_one_word_and_ten_thousand(converted):
    run, _, model = converted
    for text in ("x", "lamp " * 10_000):
        answer = model.classify(text, text if run.pair else None)
        assert np.isfinite(answer.confidence if run.labels else answer.score)


def test_texts_that_are_missing_or_too_many_are_refused(converted):
    run, _, model = converted
    with pytest.raises(errors.DataError, match="reads"):
        model.classify("lamp", None if run.pair else "lamp")
    with pytest.raises(errors.DataError, match="empty"):
        model.classify(" ", "lamp" if run.pair else None)


def test_data_of_another_task_is_refused(converted, tmp_path):
    run, _, model = converted
    labels, pair = (0, run.pair) if run.labels else (2, run.pair)
    other = write_rows(tmp_path / "other.csv", labels, pair)
    with pytest.raises(errors.DataError, match=r"other\.csv"):
        model.evaluate(other)
    if run.pair:
        single = write_rows(tmp_path / "single.csv", len(run.labels), False)
        with pytest.raises(errors.DataError, match="text_pair"):
            model.evaluate(single)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(run, CSV file, model) of a classifier of three classes."""
    folder = tmp_path_factory.mktemp("small")
    csv = write_rows(folder / "rows.csv", 3, False)
    run = make_run(folder / "run", 3, False)
    return run, csv, converters.convert(run, calibration=csv, validation=csv)


def test_the_threshold_keeps_99_of_100_right_answers(small):
    _, csv, model = small
    threshold = model.settings["confidence_threshold"]
    rows = list(examples_lib.read_examples(csv))
    right = [a for e in rows if (a := model.classify(e.text)).label == e.label]
    assert right
    assert sum(a.unsure for a in right) <= -(-len(right) // 100)
    assert all(a.unsure == (a.confidence < threshold) for a in right)
    assert threshold == pytest.approx(evaluation.confidence_threshold(model, csv))


def test_a_small_sample_warns(small):
    run, csv, _ = small
    options = converters.ConvertOptions(count=5)
    with pytest.warns(converters.CalibrationWarning, match="measured on 5 distinct texts"):
        converters.convert(run, calibration=csv, options=options)


def test_what_does_not_suit_the_run_is_refused(small, tmp_path):
    run, csv, _ = small
    limit = run.config.max_length
    cases = [
        ({"recipe": "qat"}, "needs a model that was fine-tuned with quantization"),
        ({"recipe": "guess"}, "no recipe 'guess'; there are qat"),
        (
            {"options": converters.ConvertOptions(max_length=limit + 1)},
            rf"max_length {limit + 1} is not within 1\.\.{limit}",
        ),
        ({"validation": tmp_path / "none.csv"}, "none.csv: cannot be opened"),
        ({"validation": write_rows(tmp_path / "s.csv", 0, False)}, "s.csv"),
    ]
    for arguments, message in cases:
        with pytest.raises(errors.EmbBertError, match=message):
            converters.convert(run, calibration=csv, **arguments)
    (tmp_path / "empty.csv").write_text("text,label\n")
    with pytest.raises(errors.DataError, match=r"empty\.csv: no rows"):
        converters.convert(run, calibration=tmp_path / "empty.csv")
    with pytest.raises(errors.OptionError, match="count must be at least 1"):
        converters.ConvertOptions(count=0)


def test_any_name_ending_in_tflite_will_do(small, tmp_path):
    _, _, model = small
    file = tmp_path / "new folder" / "any name.tflite"
    model.save(file)
    for path in (file, file.parent):
        assert converters.load_model(path).tflite_path == file
    assert json.loads((file.parent / "model.json").read_text())["file"] == "any name.tflite"
    model.save(file)  # its own folder may be written again
    with pytest.raises(model_folder.ModelFolderError, match="already the folder of any name"):
        model.save(file.with_name("other.tflite"))
    assert not file.with_name("other.tflite").exists()
    file.with_name("stray.tflite").write_bytes(model.tflite)
    with pytest.raises(model_folder.ModelFolderError, match=r"model\.json names any name"):
        converters.load_model(file.with_name("stray.tflite"))


def test_files_of_something_else_are_not_overwritten(small, tmp_path):
    run, _, model = small
    for name, text in (("tokenizer.json", "{}"), ("labels.txt", "left\nright\n")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(text)
        with pytest.raises(model_folder.ModelFolderError, match=f"{name}: another"):
            model.save(folder)
        assert [path.name for path in folder.iterdir()] == [name]
        assert (folder / name).read_text() == text
    # Its own tokenizer, and labels that an editor left without a last line break.
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((run.path / "tokenizer.json").read_bytes())
    (folder / "labels.txt").write_text("\n".join(run.labels))
    model.save(folder / "m.tflite")
    assert converters.load_model(folder).labels == run.labels


def test_places_that_cannot_be_written_are_named(small, tmp_path):
    _, _, model = small
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(errors.FileError, match="file"):
            model.save(path)
    with pytest.raises(model_folder.ModelFolderError, match="not saved yet"):
        _ = model.tflite_path


def test_damaged_folders_are_refused(small, tmp_path):
    _, _, model = small
    for name, content, message in (
        ("model.json", b"{}", "'task' is missing"),
        ("model.json", b"[", "cannot be read as JSON"),
        ("model.tflite", model.tflite[:-1], "SHA-256 differs"),
        ("tokenizer.json", b"{}", "not a readable tokenizer.json"),
        ("labels.txt", None, "labels.txt is missing"),
    ):
        folder = tmp_path / message.split()[-1]
        model.save(folder)
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        with pytest.raises(model_folder.ModelFolderError, match=message):
            converters.load_model(folder)


def test_importing_loads_neither_tensorflow_nor_tflm():
    code = (
        "import sys, converters; assert 'convert' in dir(converters);"
        "converters.ConvertOptions;"
        "assert not {'tensorflow', 'tflite_micro'} & {*sys.modules}, 'loaded'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'convertt'"):
        _ = converters.convertt


@pytest.mark.slow
def test_a_script_without_a_main_guard_evaluates_in_parallel(small, tmp_path):
    """Worker processes must not run the caller's script again."""
    _, csv, model = small
    model.save(tmp_path / "model")
    script = tmp_path / "script.py"
    script.write_text(
        f"import converters\nmodel = converters.load_model({str(tmp_path / 'model')!r})\n"
        f"print('once', model.evaluate({str(csv)!r}, workers=2)['count'])\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == ["once", "60"], done.stderr


def test_the_greedy_plan_is_left_to_tflm(small):
    run, csv, model = small
    options = converters.ConvertOptions(memory_plan="greedy", max_length=model.max_length)
    greedy = converters.convert(run, calibration=csv, options=options)
    assert reader.read(model.tflite).metadata
    assert not reader.read(greedy.tflite).metadata
    row = next(examples_lib.read_examples(csv))
    one, other = model.classify(row.text), greedy.classify(row.text)
    assert one.probabilities == other.probabilities
