"""An encoder: what it learns from embeddings, QAT, conversion, and inputs that cannot be used."""

import json

import numpy as np
import pytest

import converters
import embbert_tf
from converters.evaluation import shots
from embbert_tf import errors
from embbert_tf.pretraining.embeddings import Embeddings, write_embeddings
from embbert_tf.training import encoder
from tests.support.runs import run_command, small_rows

OPTIONS = {
    "width": 8, "epochs": 2, "batch_size": 16, "learning_rate": 0.01, "neighbours": 0, "ema": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module", name="embeddings")
def _embeddings(tmp_path_factory):
    """Texts of three labels; the embedding says which, and has some noise."""
    rng = np.random.default_rng(0)
    rows = small_rows()
    directions = {label: rng.normal(size=16) for label in sorted({row[1] for row in rows})}
    vectors = np.stack([directions[label] + rng.normal(0, 0.3, 16) for _, label in rows])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    path = tmp_path_factory.mktemp("encoder") / "embeddings.safetensors"
    write_embeddings(path, Embeddings([text for text, _ in rows], vectors, "drawn"))
    return path


def train(embeddings, output, init, **more):
    options = embbert_tf.EncoderOptions(**{"init": init, **OPTIONS, **more})
    return encoder.train_encoder(embeddings, output=output, options=options)


@pytest.mark.slow
def test_rows_turn_to_their_embeddings_and_are_quantized(
    embeddings, tiny_run, small_csv, tmp_path, eager, capsys
):
    run = train(embeddings, tmp_path / "run", tiny_run)
    assert run.metrics["fp32"]["valid"]["cosine"] > 0.7  # to the embeddings
    train(embeddings, tmp_path / "run", tiny_run)
    assert "finished already" in capsys.readouterr().out
    with pytest.raises(errors.RunError, match="width"):
        train(embeddings, tmp_path / "run", tiny_run, width=4)

    options = embbert_tf.QatOptions(epochs=1, samples=16)
    run = embbert_tf.train_quantized(run, embeddings, options)
    assert run.metrics["qat"]["valid"]["cosine"] > 0.98  # to the fp32 model's rows
    model = converters.convert(run, calibration=small_csv, recipe="qat")
    model.save(tmp_path / "model")
    settings = json.loads((tmp_path / "model/model.json").read_text())
    assert settings["task"] == "encoder"
    texts, labels = zip(*small_rows()[::4], strict=True)
    rows = model.rows(texts, workers=1)
    assert rows.shape == (len(texts), OPTIONS["width"])
    table = shots.taught(rows[::2], labels[::2])
    names = list(dict.fromkeys(labels[::2]))
    said = [names[table.cosines(row).argmax()] for row in rows[1::2]]
    assert np.mean(np.array(said) == labels[1::2]) > 0.9


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on(embeddings, tiny_run, tmp_path, eager, monkeypatch):
    whole = train(embeddings, tmp_path / "whole", tiny_run, epochs=1)
    saved = encoder._fit

    def killed(*arguments):
        saved(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoder, "_fit", killed)
        train(embeddings, tmp_path / "run", tiny_run, epochs=1)
    assert (tmp_path / "run" / encoder.CHECKPOINT).exists()
    again = train(embeddings, tmp_path / "run", tiny_run, epochs=1)
    for one, other in zip(whole.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_few_texts_and_other_files_are_refused(tiny_run, tmp_path):
    write_embeddings(tmp_path / "few", Embeddings(["a"], np.ones((1, 4)) / 2, "drawn"))
    with pytest.raises(errors.DataError, match="a hundred or more"):
        train(tmp_path / "few", tmp_path / "run", tiny_run)
    (tmp_path / "text").write_text("no embeddings\n")
    done = run_command(
        "embbert_tf.train_encoder", f"--embeddings={tmp_path / 'text'}",
        f"--output={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.returncode == 1 and str(tmp_path / "text") in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "run").exists()
