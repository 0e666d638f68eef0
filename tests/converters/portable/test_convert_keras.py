"""Keras models without a run folder: `convert_keras`, and the command's --model."""

import numpy as np
import pytest

import converters
import embbert_tf
from converters.tflite import reader
from embbert_tf import errors
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.quantization import folding
from tests.support import portable_models as pm
from tests.support.runs import run_command

LENGTH = 12
WORDS = ["light", "lamp", "music", "heating", "door", "radio", "kitchen", "hall", "cellar"]


def ids_of(count: int, vocab_size: int, pair: bool = False) -> np.ndarray:
    """Token ids padded with 0; texts of a pair are parted by [SEP] = 4."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, vocab_size, (count, LENGTH))
    ids[:, 0] = 2
    if pair:
        ids[:, 4] = 4
    for row, length in zip(ids, rng.integers(6, LENGTH + 1, count), strict=True):
        row[length:] = 0
    return ids


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("tensorflow").keras


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer = tokenizer_lib.train_tokenizer([" ".join(WORDS)] * 5, 120)
    tokenizer.save(str(path))
    return path


def classifier_of(keras, tokenizer, labels: int):
    size = tokenizer_lib.load_tokenizer(tokenizer).get_vocab_size()
    fields = embbert_tf.PRESETS["test"].to_dict() | {"vocab_size": size}
    keras.utils.set_random_seed(2)
    return embbert_tf.EmbBertClassifier(fields, num_labels=labels)


@pytest.fixture(scope="module")
def trained(keras, tokenizer):
    """A classifier, and what `quantize` and a short training made of it."""
    classifier = classifier_of(keras, tokenizer, 3)
    ids = ids_of(64, classifier.config.vocab_size)
    labels = ids[:, 1] % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Eagerly: tracing would take longer than the one step.
    how = {"optimizer": "adam", "loss": loss, "run_eagerly": True}
    classifier.compile(**how)
    classifier.fit(ids, labels, batch_size=64, verbose=0)
    quantized = embbert_tf.quantize(classifier, ids[:32])
    quantized.compile(**how)
    quantized.fit(ids, labels, batch_size=64, verbose=0)
    return classifier, quantized, ids


def real_logits(tflite: bytes, ids: np.ndarray, pair: bool = False) -> np.ndarray:
    output = reader.read(tflite).outputs[0]
    sequences = [row[row > 0].tolist() for row in ids]
    found = pm.tflm_logits(tflite, sequences, LENGTH, pair)
    return (found.astype(float) - output.zero_point) * output.scale


def test_a_quantized_model_needs_nothing_else(trained):
    _, quantized, ids = trained
    tflite = converters.convert_keras(quantized, max_length=LENGTH)
    found, exact = real_logits(tflite, ids), quantized(ids).numpy()
    # Both are on the device's grid; kernels and fake quantizers round some values apart.
    assert np.sqrt(np.mean((found - exact) ** 2)) < 0.3 * exact.std()
    assert converters.convert_keras(quantized, max_length=LENGTH) == tflite


def test_a_plain_model_is_measured_on_representative_ids(trained):
    classifier, _, ids = trained
    tflite = converters.convert_keras(classifier, LENGTH, representative_ids=ids)
    found, exact = real_logits(tflite, ids), classifier(ids).numpy()
    assert np.sqrt(np.mean((found - exact) ** 2)) < 0.35 * exact.std()
    ragged = [row[row > 0].tolist() for row in ids]
    assert converters.convert_keras(classifier, LENGTH, representative_ids=ragged) == tflite


def test_a_pair_and_a_score(keras, tokenizer):
    classifier = classifier_of(keras, tokenizer, 1)
    ids = ids_of(32, classifier.config.vocab_size, pair=True)
    tflite = converters.convert_keras(classifier, LENGTH, representative_ids=ids, pair=True)
    assert [t.name for t in reader.read(tflite).inputs] == ["ids", "segment_ids"]
    folded = folding.fold(classifier)
    exact = np.array([folding.forward(folded, row[row > 0]) for row in ids])
    found = real_logits(tflite, ids, pair=True)
    assert np.sqrt(np.mean((found - exact) ** 2)) < 0.35 * exact.std()


def test_what_cannot_be_converted_is_named(keras, trained):
    classifier, quantized, ids = trained
    for model, arguments, message in (
        (keras.Sequential([keras.layers.Dense(1)]), {}, "a Sequential cannot be converted"),
        (classifier, {}, "give representative_ids"),
        (quantized, {"max_length": 64}, r"max_length 64 is not within 1\.\.32"),
        (classifier, {"recipe": "qat", "representative_ids": ids}, "needs a model that was fine"),
        (quantized, {"max_length": 0}, "at least 1"),
        (quantized, {"memory_plan": "best"}, "memory_plan must be one of"),
        (classifier, {"representative_ids": [[2, 10_000]]}, "10000"),
        (classifier, {"representative_ids": [[0, 0]]}, "no"),
    ):
        with pytest.raises(errors.EmbBertError, match=message):
            converters.convert_keras(model, **({"max_length": LENGTH} | arguments))


@pytest.fixture(scope="module")
def files(trained, tmp_path_factory):
    """A folder with both models as .keras, a calibration CSV and a file of labels."""
    folder = tmp_path_factory.mktemp("keras files")
    trained[0].save(folder / "plain.keras")
    trained[1].save(folder / "quantized.keras")
    rng = np.random.default_rng(0)
    lines = [f"{' '.join(rng.choice(WORDS, 1 + i % 7))},{'abc'[i % 3]}" for i in range(60)]
    (folder / "train.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    (folder / "labels.txt").write_text("a\nb\nc")  # as editors leave it: no last line break
    return folder


def convert(files, **changed):
    """The command with --model; `changed` adds and replaces flags, None leaves one out."""
    flags = {
        "model": files / "plain.keras",
        "labels": files / "labels.txt",
        "calibration": files / "train.csv",
    } | changed
    given = [f"--{name}={value}" for name, value in flags.items() if value is not None]
    return run_command("converters.convert_tflite", *given)


@pytest.mark.parametrize("name", ["plain", "quantized"])
def test_a_file_becomes_a_model_folder(name, files, tokenizer, tmp_path):
    output = tmp_path / "any_name.tflite"
    # Into the folder of its own tokenizer, as in the README.
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    done = convert(
        files,
        model=files / f"{name}.keras",
        tokenizer=tmp_path / "tokenizer.json",
        output=output,
    )
    assert done.returncode == 0, done.stderr
    assert f"recipe {'qat' if name == 'quantized' else 'mse'}; " in done.stdout
    model = converters.load_model(output)
    assert (model.labels, model.pair, model.task) == (["a", "b", "c"], False, "classification")
    assert (tmp_path / "tokenizer.json").read_bytes() == tokenizer.read_bytes()
    assert model.evaluate(files / "train.csv", limit=12)["count"] == 12
    assert model.classify("lamp").label in "abc"


def test_a_score_of_pairs_is_inferred(keras, files, tokenizer, tmp_path):
    classifier_of(keras, tokenizer, 1).save(tmp_path / "score.keras")
    lines = [f"{WORDS[i % 9]},{WORDS[i % 7]},{i % 5}" for i in range(40)]
    (tmp_path / "pairs.csv").write_text("text,text_pair,label\n" + "\n".join(lines) + "\n")
    done = convert(
        files,
        tokenizer=tokenizer,
        output=tmp_path / "model" / "m.tflite",
        model=tmp_path / "score.keras",
        labels=None,
        calibration=tmp_path / "pairs.csv",
    )
    assert done.returncode == 0, done.stderr
    model = converters.load_model(tmp_path / "model")
    assert (model.labels, model.pair, model.task) == ([], True, "regression")
    assert np.isfinite(model.classify("lamp", "door").score)


@pytest.mark.slow
def test_files_that_do_not_fit_are_named(keras, files, tokenizer, tmp_path):
    (tmp_path / "two.txt").write_text("a\nb\n")
    (tmp_path / "twice.txt").write_text("a\nb\na\n")
    (tmp_path / "not.keras").write_text("no model")
    keras.Sequential([keras.layers.Dense(1, input_shape=(2,))]).save(tmp_path / "dense.keras")
    classifier_of(keras, tokenizer, 1).save(tmp_path / "score.keras")
    other = tmp_path / "other.json"
    tokenizer_lib.train_tokenizer(["something else"] * 5, 40).save(str(other))
    output = tmp_path / "new" / "m.tflite"
    for changed, message in (
        ({"labels": tmp_path / "two.txt"}, "two.txt: 2 labels for the 3 logits of"),
        ({"labels": tmp_path / "twice.txt"}, "twice.txt:3: the label 'a' is there twice"),
        ({"labels": tmp_path / "none.txt"}, "none.txt: cannot be opened"),
        ({"labels": None}, "3 logits without names"),
        ({"model": tmp_path / "score.keras"}, "has one logit, which is a score"),
        ({"model": tmp_path / "none.keras"}, "none.keras: no such file"),
        ({"model": tmp_path / "not.keras"}, "not.keras: cannot be read as a Keras model"),
        ({"model": tmp_path / "dense.keras"}, "dense.keras: a Sequential cannot be converted"),
        ({"tokenizer": other}, "other.json"),
        ({"tokenizer": None}, "--model needs --tokenizer"),
        ({"pair": True}, "train.csv: the model reads pairs of texts, but"),
        ({"run": tmp_path}, "give either --run or --model"),
        ({"model": None, "tokenizer": None, "labels": None}, "give either --run or --model"),
        ({"model": None, "run": tmp_path}, "--tokenizer goes with --model"),
        ({"output": tmp_path / "new" / "m.bin"}, "must end in .tflite"),
    ):
        done = convert(files, **({"tokenizer": tokenizer, "output": output} | changed))
        assert done.returncode == 1, changed
        line = done.stderr.strip().splitlines()[-1]
        assert line.startswith("convert_tflite: ") and message in line, (changed, done.stderr)
        assert not output.parent.exists()
