"""The commands from a run folder on: convert, evaluate, inspect, the plain conversion."""

import csv
import json
import os
import pathlib
import random
import subprocess
import sys
import types

import numpy as np
import pytest

from converters.benchmarks import plain_conversion
from converters.kernels import recognize
from converters.tflite import graph as graph_lib
from converters.tflite import reader, writer
from embbert_tf.data import files
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.storage import run_folder
from tests.support import portable_models as pm

ROOT = pathlib.Path(__file__).resolve().parents[2]
THINGS = ["light", "lamp", "music", "heating", "door", "radio", "window", "fan"]
ROOMS = ["kitchen", "hall", "cellar", "office", "garden", "attic"]
LENGTH = 16


def command(*arguments):
    """Runs `python -m ...`; returns (exit status, stdout, last line of stderr)."""
    result = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=300,
        check=False,
    )
    return result.returncode, result.stdout, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CSV file and the run folder of an untrained classifier."""
    keras = pytest.importorskip("tensorflow").keras
    from embbert_tf.model import classifier
    from embbert_tf.model.config import PRESETS, EmbBertConfig

    folder = tmp_path_factory.mktemp("commands")
    rng = random.Random(0)
    rows = [
        (f"turn {way} the {rng.choice(THINGS)} in the {rng.choice(ROOMS)}", way)
        for way in ("on", "off")
        for _ in range(40)
    ]
    with open(folder / "data.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    tokenizer = tokenizer_lib.train_tokenizer([text for text, _ in rows], 120)
    run = folder / "run"
    run.mkdir()
    tokenizer.save(str(run / run_folder.TOKENIZER))
    fields = PRESETS["test"].to_dict() | {"vocab_size": tokenizer.get_vocab_size()}
    keras.utils.set_random_seed(1)
    model = classifier.EmbBertClassifier(EmbBertConfig.from_dict(fields), num_labels=2)
    model.save(run / run_folder.FP32)
    settings = {"config": fields, "task": "classification", "pair": False}
    files.write_json(run / run_folder.CONFIG, settings)
    run_folder.write_labels(run / run_folder.LABELS, ["off", "on"])
    (folder / "ids.json").write_text(
        json.dumps([tokenizer_lib.encode(tokenizer, text, None, LENGTH) for text, _ in rows[:20]])
    )
    return folder


@pytest.fixture(scope="module")
def model(folder):
    status, out, err = command(
        "converters.convert_tflite",
        f"--run={folder / 'run'}",
        f"--calibration={folder / 'data.csv'}",
        f"--output={folder / 'model' / 'model.tflite'}",
        f"--max_length={LENGTH}",
        "--recipe=minmax",
    )
    assert status == 0, err
    assert "schedule: query rows" in out
    return folder / "model"


def test_model_folder_says_what_is_in_it(model):
    settings = json.loads((model / "model.json").read_text())
    assert settings["max_length"] == LENGTH
    assert settings["recipe"]["name"] == "minmax"
    assert settings["inputs"][0]["shape"] == [1, LENGTH]
    extracted = recognize.extract((model / "model.tflite").read_bytes())
    assert settings["output"]["scale"] == pytest.approx(extracted.logits_scale)
    assert (extracted.labels, extracted.max_length) == (2, LENGTH)
    assert (model / "labels.txt").read_text() == "off\non\n"


def test_evaluate_counts_right_answers(folder, model):
    status, out, err = command(
        "converters.evaluate_tflite",
        f"--model={model}",
        f"--data={folder / 'data.csv'}",
        f"--logits={folder / 'logits.npy'}",
    )
    assert status == 0, err
    measured = json.loads(out.splitlines()[-1])
    logits = np.load(folder / "logits.npy")
    right = np.mean(logits.argmax(axis=1) == np.repeat([1, 0], 40))
    assert measured["count"] == len(logits) == 80
    assert measured["accuracy"] == pytest.approx(right)


def test_inspect_writes_a_table_and_a_picture(folder, model, tmp_path):
    arguments = [
        "converters.inspect_tflite",
        f"--run={folder / 'run'}",
        f"--data={folder / 'data.csv'}",
        f"--output={tmp_path / 'i'}",
        "--limit=8",
    ]
    status, out, err = command(*arguments, f"--tflite={model / 'model.tflite'}")
    assert status == 0, err
    assert "layers by the SNR lost in them" in out
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
    status, _, err = command(
        "converters.inspect_tflite",
        f"--run={folder / 'run'}",
        f"--data={folder / 'data.csv'}",
        f"--tflite={tmp_path / 'other.tflite'}",
        f"--output={tmp_path / 'i'}",
    )
    assert status == 1
    assert err.splitlines()[-1].startswith("inspect: not the portable EmbBERT graph")
    assert "Traceback" not in err
    assert not (tmp_path / "i.csv").exists()


def test_plain_conversion_is_the_same_model(folder):
    """Its logits on TFLM stay near fp32's, with nothing of ours in the file."""
    status, _, err = command(
        "converters.benchmarks.plain_conversion",
        f"--run={folder / 'run'}",
        f"--calibration={folder / 'data.csv'}",
        f"--output={folder / 'plain.tflite'}",
        f"--max_length={LENGTH}",
    )
    assert status == 0, err
    tflite = (folder / "plain.tflite").read_bytes()
    graph = reader.read(tflite)
    assert [t.type_name for t in graph.inputs] == ["INT32"]
    assert [t.type_name for t in graph.outputs] == ["INT8"]
    assert "BATCH_MATMUL" in {op.kind for op in graph.ops}
    sequences = json.loads((folder / "ids.json").read_text())
    logits = pm.tflm_logits(tflite, sequences, LENGTH).astype(float)
    output = graph.outputs[0]
    real = (logits - output.zero_point) * output.scale
    from embbert_tf.quantization import folding

    folded = folding.fold(run_folder.load_run(folder / "run").model)
    expected = np.stack([folding.forward(folded, ids) for ids in sequences])
    spread = expected.std()
    assert np.sqrt(np.mean((real - expected) ** 2)) < 0.35 * spread


def test_plain_conversion_explains_what_is_wrong():
    model = types.SimpleNamespace(config=pm.ONE_LAYER)
    with pytest.raises(
        ValueError, match=r"--max_length=999 is not within 1\.\.32, the model's own"
    ):
        plain_conversion.convert(model, [[2, 5]], 999)


def test_benchmark_prints_both_conversions_beside_the_paper(tmp_path):
    status, out, err = command(
        "converters.benchmarks.memory", "--config=tiny", "--lengths=16", f"--models={tmp_path}"
    )
    assert status == 0, err
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()[3:]]
    assert [row[1].split(",")[0] for row in rows] == [
        "plain TFLiteConverter",
        "portable graph",
        "portable graph",
        "the paper",
    ]
    numbers = [[int(cell.replace(",", "")) for cell in row[2:5]] for row in rows[:3]]
    for (file, arena, together), name in zip(numbers, ("plain", "greedy", "offline"), strict=True):
        assert file == (tmp_path / f"{name}16.tflite").stat().st_size
        assert together == file + arena
    assert numbers[2][1] <= numbers[1][1] < numbers[0][1]
    assert rows[3][4] == "781,000"
