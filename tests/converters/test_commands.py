"""The commands from a run folder on: convert, evaluate, inspect."""

import csv
import json

import numpy as np
import pytest

from converters.kernels import recognize
from converters.tflite import graph as graph_lib
from converters.tflite import writer
from tests.support import untrained_run
from tests.support.runs import run_command

LENGTH = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CSV file and the run folder of an untrained classifier."""
    folder = tmp_path_factory.mktemp("commands")
    untrained_run.write(folder)
    return folder


def convert(folder, output, *arguments):
    return run_command(
        "converters.convert_tflite",
        f"--run={folder / 'run'}",
        f"--calibration={folder / 'data.csv'}",
        f"--output={output}",
        *arguments,
    )


@pytest.fixture(scope="module")
def model(folder):
    output = folder / "model" / "model.tflite"
    done = convert(folder, output, f"--max_length={LENGTH}", "--recipe=minmax")
    assert done.returncode == 0, done.stderr
    assert "schedule: query rows" in done.stdout
    assert f"recipe minmax; {output.stat().st_size} bytes -> {output}" in done.stdout
    return folder / "model"


def test_model_folder_says_what_is_in_it(model):
    settings = json.loads((model / "model.json").read_text())
    assert settings["max_length"] == LENGTH
    assert settings["recipe"]["name"] == "minmax"
    assert settings["file"] == "model.tflite"
    assert settings["inputs"][0]["shape"] == [1, LENGTH]
    extracted = recognize.extract((model / "model.tflite").read_bytes())
    assert settings["output"]["scale"] == pytest.approx(extracted.logits_scale)
    assert (extracted.labels, extracted.max_length) == (2, LENGTH)
    assert (model / "labels.txt").read_text() == "off\non\n"


def test_a_poor_sample_is_warned_of_in_one_line(folder, tmp_path):
    (tmp_path / "few.csv").write_text("text,label\nturn on,on\nturn off,elsewhere\n")
    flags = [f"--calibration={tmp_path / 'few.csv'}", "--max_length=8"]
    done = convert(folder, tmp_path / "m.tflite", *flags)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert any("measured on 2 distinct texts" in line for line in lines)
    assert any("'elsewhere'" in line for line in lines)
    assert all(line.startswith("convert_tflite: warning: ") for line in lines)


def test_mistakes_end_with_one_line_and_write_nothing(folder, tmp_path):
    (tmp_path / "file").write_text("")
    output = tmp_path / "new" / "model.tflite"
    for arguments, message in (
        ([f"--run={tmp_path / 'none'}"], "no such run folder"),
        ([f"--calibration={tmp_path / 'none.csv'}"], "none.csv: cannot be opened"),
        ([f"--output={tmp_path / 'file' / 'm.tflite'}"], "file"),
        (["--output=model.bin"], "must end in .tflite"),
        (["--max_length=4000"], "max_length 4000 is not within"),
        (["--recipe=qat"], "was fine-tuned with quantization"),
    ):
        done = convert(folder, output, *arguments)
        assert done.returncode == 1, arguments
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("convert_tflite: ")
        assert message in done.stderr
    assert not output.parent.exists()


def test_evaluate_counts_right_answers(folder, model):
    done = run_command(
        "converters.evaluate_tflite",
        f"--model={model}",
        f"--data={folder / 'data.csv'}",
        f"--logits={folder / 'logits.npy'}",
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])
    logits = np.load(folder / "logits.npy")
    right = np.mean(logits.argmax(axis=1) == np.repeat([1, 0], 40))
    assert measured["count"] == len(logits) == 80
    assert measured["accuracy"] == pytest.approx(right)


def test_evaluate_explains_what_is_wrong(folder, model, tmp_path):
    (tmp_path / "data.csv").write_text("text,label\nturn on,elsewhere\n")
    for arguments, message in (
        ([f"--model={tmp_path}"], "no model folder, model.json is missing"),
        ([f"--data={tmp_path / 'data.csv'}"], "'elsewhere'"),
        ([f"--logits={tmp_path / 'none' / 'l.npy'}"], "none"),
    ):
        done = run_command(
            "converters.evaluate_tflite",
            f"--model={model}",
            f"--data={folder / 'data.csv'}",
            *arguments,
        )
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_inspect_writes_a_table_and_a_picture(folder, model, tmp_path):
    for tflite in (model / "model.tflite", model):
        done = run_command(
            "converters.inspect_tflite",
            f"--run={folder / 'run'}",
            f"--data={folder / 'data.csv'}",
            f"--tflite={tflite}",
            f"--output={tmp_path / 'i'}",
            "--limit=8",
        )
        assert done.returncode == 0, done.stderr
    assert "layers by the SNR lost in them" in done.stdout
    with open(tmp_path / "i.csv", encoding="utf-8") as file:
        rows = {row["tensor"]: float(row["snr_db"]) for row in csv.DictReader(file)}
    assert len(rows) == 2 * 12 + 2
    assert rows["x0"] > 25
    assert min(rows.values()) > 8
    assert (tmp_path / "i.png").read_bytes().startswith(b"\x89PNG")


def test_inspect_refuses_another_graph(folder, tmp_path):
    x = graph_lib.Tensor("x", (1, 8), np.int8, 1.0)
    y = graph_lib.Tensor("y", (1, 8), np.int8, 1.0)
    graph = graph_lib.Graph([x], [y], [graph_lib.Op("ABS", [x], [y])])
    (tmp_path / "other.tflite").write_bytes(writer.write(graph))
    for name, message in (
        ("other.tflite", "not the portable EmbBERT graph"),
        ("none.tflite", "none.tflite: cannot be opened"),
    ):
        done = run_command(
            "converters.inspect_tflite",
            f"--run={folder / 'run'}",
            f"--data={folder / 'data.csv'}",
            f"--tflite={tmp_path / name}",
            f"--output={tmp_path / 'i'}",
        )
        assert done.returncode == 1
        assert done.stderr.startswith("inspect_tflite: ")
        assert message in done.stderr
        assert not (tmp_path / "i.csv").exists()
