"""The compared models as full-int8 graphs, on the real TFLM."""

import json

import numpy as np
import pytest

import converters
from converters.tflite import graph as graph_lib
from converters.tflite import reader
from converters.tflm import runner
from embbert_tf import errors
from tests.embbert_tf.baselines.test_baselines import EACH_KIND, classifier_of, small
from tests.support.runs import run_command

TEXTS = [[2, 7, 9], [2, 8, 12, 10, 11, 33], [2], [2, 5, 6, 7, 8, 9, 10, 11, 12, 13]]
PAIRS = [[2, 7, 4, 9], [2, 8, 12, 4, 10, 11, 33], [2, 5, 4]]


def quantized_of(name, texts, **changes):
    from embbert_tf.baselines import quantized_baseline

    model = classifier_of(small(name, **changes))
    return quantized_baseline.quantize(model, texts).settled()


@pytest.mark.parametrize("name", EACH_KIND)
def test_answers_as_in_training(name):
    quantized = quantized_of(name, TEXTS)
    # One kind is placed in the arena by TFLM itself.
    plan = "greedy" if name == "mamba" else "offline"
    tflite = converters.convert_keras(quantized, 12, memory_plan=plan)
    logits = reader.read(tflite).outputs[0]
    run = runner.Runner(tflite, 12, pair=False)
    for ids in TEXTS:
        expected = quantized(np.array([ids])).numpy()[0] / logits.scale + logits.zero_point
        # A step of int8 here and there, which a later layer takes along.
        assert np.abs(run.logits(ids) - expected).max() <= 12, ids


@pytest.mark.parametrize("name", EACH_KIND)
def test_pairs(name):
    quantized = quantized_of(name, PAIRS)
    tflite = converters.convert_keras(quantized, 12, representative_ids=PAIRS, pair=True)
    logits = reader.read(tflite).outputs[0]
    run = runner.Runner(tflite, 12, pair=True)
    # Another segment must make a difference, else nothing is tested.
    assert np.abs(run.logits([2, 7, 4, 9]) - 1.0 * run.logits([2, 7, 5, 9])).max() > 20
    rng, off = np.random.default_rng(0), []
    for length in range(1, 7):
        for _ in range(5):
            ids = [2, *rng.integers(5, 40, 3), 4, *rng.integers(5, 40, length)]
            expected = quantized(np.array([ids])).numpy()[0] / logits.scale + logits.zero_point
            off.append(np.abs(run.logits(ids) - expected))
    # Of one text a step at a score that decides may move a logit by 17; of thirty none may.
    assert np.mean(off) <= 3.5


def test_graph_of_bert():
    tflite = converters.convert_keras(quantized_of("bert", TEXTS), 12)
    graph = reader.read(tflite)
    kinds = [op.kind for op in graph.ops]
    assert kinds.count("SOFTMAX") == 4  # two heads in two layers
    assert {tensor.type_name for tensor in graph.tensors} <= {"INT8", "INT32"}
    # The last layer computes row 0 alone: of its queries there is one.
    assert [op.inputs[0].shape[0] for op in graph.ops if op.kind == "SOFTMAX"] == [12, 12, 1, 1]


def test_measures_ranges_of_a_float_model():
    classifier = classifier_of(small("nano_bert"))
    tflite = converters.convert_keras(classifier, 12, representative_ids=TEXTS, recipe="minmax")
    logits = reader.read(tflite).outputs[0]
    said = runner.Runner(tflite, 12, pair=False).logits(TEXTS[1])
    exact = classifier(np.array([TEXTS[1]])).numpy()[0]
    said = said.astype(np.float64)
    assert np.abs((said - logits.zero_point) * logits.scale - exact).max() < 0.2 * np.ptp(exact)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"npu": "ethos-u55"}, "for no NPU"),
        ({"recipe": "qat16"}, "take the recipe qat, mse or minmax"),
        ({"max_length": 13}, "not within 1..12"),
    ],
)
def test_refuses(arguments, message):
    quantized = quantized_of("bert", TEXTS)
    with pytest.raises(errors.OptionError, match=message):
        converters.convert_keras(quantized, **{"max_length": 12} | arguments)


def test_refuses_a_model_that_attends_to_padding():
    classifier = classifier_of(small("bert", attend_to_padding=True))
    with pytest.raises(errors.OptionError, match="train it without attend_to_padding"):
        converters.convert_keras(classifier, 12, representative_ids=TEXTS, recipe="mse")


@pytest.mark.slow
def test_from_training_to_firmware(small_csv, tmp_path, eager):
    train = ["--epochs=3", "--batch_size=18", "--learning_rate=5e-3", "--token_dropout=0"]
    done = run_command(
        "embbert_tf.train", "--architecture=bert", f"--train={small_csv}", "--vocab_size=300",
        f"--output={tmp_path / 'run'}", *train,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run_command(
        "embbert_tf.qat", f"--run={tmp_path / 'run'}", f"--train={small_csv}", "--epochs=1",
        "--samples=16",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model = converters.convert(tmp_path / "run", calibration=small_csv).save(tmp_path / "model")
    assert model.evaluate(small_csv)["accuracy"] > 0.9
    assert json.loads((tmp_path / "model/model.json").read_text())["config"]["kind"] == (
        "transformer"
    )
    done = run_command(
        "converters.generate_tflm", f"--model_folder={tmp_path / 'model'}",
        f"--output_folder={tmp_path / 'firmware'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shape = (tmp_path / "firmware/model_shape.h").read_text()
    assert "#define MODEL_HIDDEN 80\n" in shape and "#define MODEL_BLOCKS 2\n" in shape
    # What EmbBERT's kernels alone can do.
    done = run_command(
        "converters.generate_firmware", f"--model_folder={tmp_path / 'model'}",
        f"--output_folder={tmp_path / 'x'}",
    )  # fmt: skip
    assert done.returncode == 1 and "a transformer, which TFLM alone runs" in done.stderr
    done = run_command(
        "converters.inspect_tflite", f"--run={tmp_path / 'run'}", f"--data={small_csv}",
        f"--tflite={tmp_path / 'model' / 'model.tflite'}",
    )  # fmt: skip
    assert done.returncode == 1 and "is told of EmbBERT's graph alone" in done.stderr
    done = run_command(
        "converters.report_page", f"--model={tmp_path / 'model'}", f"--run={tmp_path / 'run'}",
        f"--data={small_csv}", f"--output={tmp_path / 'page.html'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "this is a transformer" in done.stdout + done.stderr
    assert (tmp_path / "page.html").exists()
    done = run_command(
        "converters.generate_tflm", f"--model_folder={tmp_path / 'model'}", "--graph=fused",
        f"--output_folder={tmp_path / 'fused'}",
    )  # fmt: skip
    assert done.returncode == 1 and "take the graph portable" in done.stderr


def test_custom_operators_need_leave():
    graph = graph_lib.Graph([], [], [graph_lib.Op("CUSTOM", [], [], custom_code="OTHER")])
    from converters.tflite import checks

    with pytest.raises(checks.UnsupportedGraphError, match="OTHER"):
        checks.check_builtin(graph)
