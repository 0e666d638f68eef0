"""The Keras level: classifier from a preset, quantized, trained, saved and loaded as any model."""

import dataclasses
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

import embbert_tf
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.model.special_tokens import SEP
from embbert_tf.quantization import folding
from embbert_tf.quantization import ranges as ranges_lib
from embbert_tf.storage import backbone_folder
from tests.support.runs import ROOT

# One layer: what is shown here is Keras's side of a model.
CONFIG = dataclasses.replace(embbert_tf.PRESETS["test"], num_layers=1)
SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _texts(count, seed=0, pair=False):
    """Padded ids, and whether token 10 is in a row: what a model has to learn of them."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(11, CONFIG.vocab_size, (count, 8)).astype(np.int32)
    ids[:, 0] = 2
    labels = np.arange(count) % 2
    ids[labels == 1, 3] = 10
    if pair:
        ids[:, 4] = SEP
    ids[::3, 6:] = 0
    return ids, labels


@pytest.fixture(scope="module", name="trained")
def _trained():
    keras.utils.set_random_seed(0)
    classifier = embbert_tf.EmbBertClassifier(CONFIG, num_labels=2, dropout=0.0)
    classifier.compile(keras.optimizers.Adam(0.01), SPARSE, metrics=["accuracy"])
    classifier.fit(*_texts(256), epochs=8, batch_size=32, verbose=0)
    return classifier


@pytest.fixture(scope="module", name="quantized")
def _quantized(trained):
    """Quantized and fine-tuned, from a `tf.data.Dataset` and with a callback."""
    dataset = tf.data.Dataset.from_tensor_slices(_texts(256)).batch(32)
    quantized = embbert_tf.quantize(trained, _texts(64, seed=1)[0])
    quantized.compile(keras.optimizers.Adam(1e-3), SPARSE, metrics=["accuracy"])
    epochs = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(logs))
    quantized.fit(dataset, epochs=2, verbose=0, callbacks=[callback])
    assert len(epochs) == 2 and epochs[-1]["accuracy"] >= 0.95
    return quantized


def test_both_models_learn(trained, quantized):
    ids, labels = _texts(100, seed=2)
    for model in (trained, quantized):
        assert (model.predict(ids, verbose=0).argmax(axis=1) == labels).mean() >= 0.95


@pytest.mark.slow
def test_a_saved_model_goes_on_as_if_never_saved(quantized, tmp_path):
    """Weights, ranges, whether these learn, loss, metrics and the optimizer's state."""
    quantized.save(tmp_path / "any.keras")
    loaded = keras.models.load_model(tmp_path / "any.keras")
    ids, labels = _texts(64, seed=3)
    np.testing.assert_array_equal(loaded(ids).numpy(), quantized(ids).numpy())
    before = loaded.ranges()
    assert loaded.learning and before == quantized.ranges()
    ours, theirs = loaded.optimizer.variables, quantized.optimizer.variables
    # Moments of first and second order of each variable, and at least the number of the step.
    assert len(ours) == len(theirs) > 2 * len(quantized.trainable_variables)
    for got, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(got.numpy(), expected.numpy(), err_msg=got.name)
    result = loaded.fit(ids, labels, verbose=0).history
    assert result["accuracy"][0] >= 0.9
    after = loaded.ranges()
    kinds = {name: folding.kind(name) for name in after}
    assert all(after[n] != before[n] for n in after if kinds[n] not in ranges_lib.NEVER_CUT)


def test_a_settled_model_is_saved_as_such(quantized, tmp_path):
    settled = quantized.settled()
    settled.save(tmp_path / "settled.keras")
    loaded = keras.models.load_model(tmp_path / "settled.keras")
    assert not loaded.learning
    assert len(loaded.trainable_variables) == len(quantized.classifier.trainable_variables)
    ids, _ = _texts(32)
    np.testing.assert_array_equal(loaded(ids).numpy(), settled(ids).numpy())
    before = loaded.ranges()
    loaded(_texts(64, seed=9)[0], training=True)
    assert loaded.ranges() == before


@pytest.mark.parametrize("num_labels", [1, pytest.param(500, marks=pytest.mark.slow)])
def test_scores_and_pairs(num_labels, eager):
    ids, labels = _texts(64, pair=True)
    classifier = embbert_tf.EmbBertClassifier(CONFIG, num_labels)
    quantized = embbert_tf.quantize(classifier, ids)
    loss = keras.losses.MeanSquaredError() if num_labels == 1 else SPARSE
    quantized.compile("adam", loss)
    history = quantized.fit(ids, labels * 1.0, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    swapped = np.concatenate([ids[:, :1], ids[:, 5:], ids[:, 4:5], ids[:, 1:4]], axis=1)
    assert quantized(ids).shape == (64, num_labels)
    assert (quantized(ids).numpy() != quantized(swapped).numpy()).any()


_LOAD = """
import sys
import embbert_tf
assert "tensorflow" not in sys.modules
from tensorflow import keras
for path in sys.argv[1:]:
    print(type(keras.models.load_model(path, compile=False)).__name__)
"""


@pytest.mark.slow
def test_files_load_after_importing_the_package_alone(trained, quantized, tmp_path):
    """Files of an older version too, whose classes are in modules that are no more."""
    paths = [tmp_path / "classifier.keras", tmp_path / "quantized.keras"]
    trained.save(paths[0])
    quantized.settled().save(paths[1])
    for path in list(paths):
        old = tmp_path / f"old_{path.name}"
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "config.json":
                    config = json.loads(content)
                    config["config"].pop("learning", None)
                    config["module"] = f"embbert_tf.{config['module'].split('.')[1]}_of_old"
                    content = json.dumps(config)
                target.writestr(name, content)
        paths.append(old)
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["EmbBertClassifier", "QuantizedClassifier"] * 2


def test_from_a_backbone_folder(tmp_path):
    tokenizer_lib.train_tokenizer(["play some jazz"] * 3, 60).save(str(tmp_path / "tokenizer.json"))
    backbone = embbert_tf.EmbBertBackbone(CONFIG)
    backbone_folder.save_backbone(tmp_path / "b", backbone, tmp_path / "tokenizer.json", {})
    classifier = embbert_tf.EmbBertClassifier.from_preset(tmp_path / "b", num_labels=7)
    assert (classifier.num_labels, classifier.config) == (7, CONFIG)
    for got, expected in zip(
        classifier.backbone.get_weights(), backbone.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
def test_from_a_run_folder(tiny_run):
    run = embbert_tf.load_run(tiny_run)
    classifier = embbert_tf.EmbBertClassifier.from_preset(str(tiny_run), 4, dropout=0.3, name="new")
    assert (classifier.num_labels, classifier.dropout, classifier.name) == (4, 0.3, "new")
    for got, expected in zip(
        classifier.backbone.get_weights(), run.model.backbone.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
def test_from_packed_weights():
    """The form in which the zoo keeps runs."""
    classifier = embbert_tf.EmbBertClassifier.from_preset(ROOT / "zoo" / "snips", num_labels=3)
    run = embbert_tf.load_run(ROOT / "zoo" / "snips")
    np.testing.assert_array_equal(classifier.backbone.embedder.token, run.model.get_weights()[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: "nanno", "no such folder; .* one of nano, tiny, embbert"),
        (lambda folder: folder, r"config\.json is missing"),
        (lambda folder: folder / "a.keras", "a file; .* keras.models.load_model"),
    ],
)
def test_a_preset_that_is_none(tmp_path, make, message):
    (tmp_path / "a.keras").touch()
    with pytest.raises(embbert_tf.EmbBertError, match=message):
        embbert_tf.EmbBertClassifier.from_preset(make(tmp_path), num_labels=2)


@pytest.mark.parametrize("num_labels", [0, -1, 2.0, True, "2", None])
def test_a_number_of_labels_that_is_none(num_labels):
    with pytest.raises(embbert_tf.EmbBertError, match="num_labels must be a positive integer"):
        embbert_tf.EmbBertClassifier.from_preset("test", num_labels)


def test_samples_of_every_form_give_the_same_ranges():
    ids = np.array([[2, 10, 11, 12], [2, 40, 0, 0], [2, 50, 51, 0]])
    rows = [[2, 10, 11, 12], [2, 40], [2, 50, 51]]
    forms = [ids, ids.astype(np.uint8), ids.tolist(), rows, tf.constant(ids), iter(rows)]
    forms += [tf.ragged.constant(rows), tuple(map(np.array, rows))]
    for form in forms:
        assert ranges_lib.sequences_of(form, CONFIG) == rows


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ([], "no text"),
        (7, "a int, not an array or a list"),
        ([2, 3], "text 1 of the sample is not a row"),
        ([[2, 3], [2.0, 3.0]], "text 2 of the sample is not a row"),
        ([[2, 3], ["a"]], "text 2 of the sample is not a row"),
        ([[[2, 3], [3]]], "text 1 of the sample is not a row"),
        ([[2, 3], []], "text 2 of the sample has no token"),
        (np.zeros((2, 4), int), "text 1 of the sample has no token"),
        ([[2, 0, 3]], r"has \[PAD\] before its end"),
        ([[2] * 33], "has 33 token ids; the model takes 32"),
        ([[2, 256]], "the token id 256; the model's go to 255"),
        ([[2, -1]], "the token id -1"),
    ],
)
def test_a_sample_that_is_none(sample, message):
    with pytest.raises(embbert_tf.EmbBertError, match=message):
        ranges_lib.sequences_of(sample, CONFIG)


def test_what_cannot_be_quantized(trained, quantized):
    with pytest.raises(embbert_tf.EmbBertError, match="not a QuantizedClassifier"):
        embbert_tf.quantize(quantized, [[2, 3]])
    diverged = embbert_tf.EmbBertClassifier.from_config(trained.get_config())
    diverged.head.bias.assign([np.nan, 0.0])
    with pytest.raises(embbert_tf.EmbBertError, match=r"head/bias.* no finite number"):
        embbert_tf.quantize(diverged, [[2, 3]])
