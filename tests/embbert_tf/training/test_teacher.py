"""Runs as a teacher: the mean of what they say, as soft labels."""

import gzip
import shutil

import numpy as np
import pytest

import embbert_tf
from embbert_tf import errors
from embbert_tf.data import examples, soft_labels
from embbert_tf.storage import run_folder
from embbert_tf.training import distillation
from embbert_tf.training.linear_teacher import LinearTeacher
from embbert_tf.training.teacher import label_texts
from tests.support.runs import run_command


@pytest.fixture
def other_run(tiny_run, tmp_path):
    """The same run with another head."""
    shutil.copytree(tiny_run, tmp_path / "other")
    run = run_folder.load_run(tmp_path / "other")
    run.model.head.bias.assign([0.0, 2.0, -1.0])
    run.model.save(tmp_path / "other" / run_folder.FP32)
    return tmp_path / "other"


def test_the_mean_of_the_runs_is_written_and_learnt_from(tiny_run, other_run, small_csv, tmp_path):
    texts = tmp_path / "texts.txt.gz"
    with gzip.open(texts, "wt") as file:
        file.write("start the heater\nwhich pump is it\nstart the heater\n")
    output = tmp_path / "soft.csv.gz"
    done = run_command("embbert_tf.label_texts", f"--runs={tiny_run},{other_run}",
                       f"--input={texts},{small_csv}", f"--output={output}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row.text for row in examples.read_all(small_csv)}
    assert f"{len(rows) + 2} texts" in done.stdout and "run 2 of 2" in done.stdout
    run = embbert_tf.load_run(tiny_run)
    found = soft_labels.read_soft_labels(output, run.labels, pair=False)
    assert found.keys() == {
        (text, None) for text in [*rows, "start the heater", "which pump is it"]
    }
    ids = embbert_tf.encode(run.tokenizer, "which pump is it", max_length=run.config.max_length)
    said = [
        distillation.softmax(embbert_tf.load_run(path).model(np.array([ids])).numpy())
        for path in (tiny_run, other_run)
    ]
    np.testing.assert_allclose(found["which pump is it", None], np.mean(said, axis=0)[0], atol=1e-4)
    options = embbert_tf.TrainOptions(preset="test", epochs=1, soft_labels=output, keep="last")
    embbert_tf.train(small_csv, output=tmp_path / "student", options=options)


def test_a_linear_model_is_one_of_the_teachers(tiny_run, small_csv, tmp_path):
    outputs = [tmp_path / "runs.csv", tmp_path / "both.csv"]
    label_texts([tiny_run], [small_csv], outputs[0])
    done = run_command("embbert_tf.label_texts", f"--runs={tiny_run}", f"--linear={small_csv}",
                       f"--valid={small_csv}", "--linear_share=0.75", f"--input={small_csv}",
                       f"--output={outputs[1]}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = examples.read_all(small_csv)
    assert f"linear model: learns from {len(rows)} texts of {small_csv}" in done.stdout
    lines = [line for line in done.stdout.splitlines() if "validation accuracy" in line]
    assert [line.split(":")[0] for line in lines] == [str(tiny_run), "linear model", "mean"]
    run = embbert_tf.load_run(tiny_run)
    alone, both = (soft_labels.read_soft_labels(path, run.labels, pair=False) for path in outputs)
    said = LinearTeacher(rows, run.labels, small_csv).says(rows)
    for row, of_linear in zip(rows, said, strict=True):
        wanted = 0.25 * alone[row.text, None] + 0.75 * of_linear
        np.testing.assert_allclose(both[row.text, None], wanted, atol=1e-4)


def test_refuses(tiny_run, other_run, small_csv, tmp_path):
    output = tmp_path / "soft.csv"
    (other_run / run_folder.LABELS).write_text("a\nb\nc\n")
    with pytest.raises(errors.RunError, match="of another task or with other labels"):
        label_texts([tiny_run, other_run], [small_csv], output)
    with pytest.raises(errors.RunError, match="no such run folder"):
        label_texts([tmp_path / "none"], [small_csv], output)
    with pytest.raises(errors.RunError, match="no runs; give at least one"):
        label_texts([], [small_csv], output)
    with pytest.raises(errors.DataError, match="no file: no text"):
        label_texts([tiny_run], [], output)
    with pytest.raises(errors.FileError):
        label_texts([tiny_run], [small_csv], tmp_path)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("text,text_pair,label\na,b,on\n")
    with pytest.raises(errors.DataError, match="pairs of texts"):
        label_texts([tiny_run], [pairs], output)
    with pytest.raises(errors.DataError, match="pairs of texts"):
        label_texts([tiny_run], [small_csv], output, linear=pairs)
    with pytest.raises(errors.OptionError, match="linear_share=1: must be above 0 and below 1"):
        label_texts([tiny_run], [small_csv], output, linear=small_csv, linear_share=1)
    other_labels = tmp_path / "other.csv"
    other_labels.write_text("text,label\na,elsewhere\n")
    with pytest.raises(errors.DataError, match="'elsewhere' does not occur"):
        label_texts([tiny_run], [small_csv], output, valid=other_labels)
    assert not output.exists()
