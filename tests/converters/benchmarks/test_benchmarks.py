"""The plain conversion, and the table of memory beside the paper's figures."""

import types

import numpy as np
import pytest

from converters.benchmarks import accuracy, plain_conversion
from converters.tflite import reader
from embbert_tf import errors
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.storage import run_folder
from tests.support import portable_models as pm
from tests.support import untrained_run
from tests.support.runs import ROOT, run_command

LENGTH = 16


@pytest.mark.slow
def test_plain_conversion_is_the_same_model(tmp_path):
    """Its logits on TFLM stay near fp32's, with nothing of ours in the file."""
    texts = untrained_run.write(tmp_path)
    done = run_command(
        "converters.benchmarks.plain_conversion",
        f"--run={tmp_path / 'run'}",
        f"--calibration={tmp_path / 'data.csv'}",
        f"--output={tmp_path / 'plain.tflite'}",
        f"--max_length={LENGTH}",
    )
    assert done.returncode == 0, done.stderr
    tflite = (tmp_path / "plain.tflite").read_bytes()
    graph = reader.read(tflite)
    assert [t.type_name for t in graph.inputs] == ["INT32"]
    assert [t.type_name for t in graph.outputs] == ["INT8"]
    assert "BATCH_MATMUL" in {op.kind for op in graph.ops}
    run = run_folder.load_run(tmp_path / "run")
    sequences = [tokenizer_lib.encode(run.tokenizer, text, None, LENGTH) for text in texts[:20]]
    logits = pm.tflm_logits(tflite, sequences, LENGTH).astype(float)
    output = graph.outputs[0]
    real = (logits - output.zero_point) * output.scale
    from embbert_tf.quantization import folding

    folded = folding.fold(run.model)
    expected = np.stack([folding.forward(folded, ids) for ids in sequences])
    spread = expected.std()
    assert np.sqrt(np.mean((real - expected) ** 2)) < 0.35 * spread


def test_plain_conversion_explains_what_is_wrong():
    model = types.SimpleNamespace(config=pm.ONE_LAYER)
    with pytest.raises(
        ValueError, match=r"--max_length=999 is not within 1\.\.32, the model's own"
    ):
        plain_conversion.convert(model, [[2, 5]], 999)


@pytest.mark.slow
def test_benchmark_prints_both_conversions_beside_the_paper(tmp_path):
    done = run_command(
        "converters.benchmarks.memory", "--config=tiny", "--lengths=16", f"--models={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say --library=BOARD=FILE to measure"),
        (["--library=mps2-an386"], "say --library=BOARD=FILE"),
        (["--library=mps2-an386={file}"], "--library needs --tflm_dir"),
        (["--library=mps9={file}", "--tflm_dir=."], "board 'mps9': there are mps2-an385, "),
        (["--library=mps2-an386=none.a", "--tflm_dir=."], "none.a: there is no such file"),
        (["--library=mps2-an386={file}", "--tflm_dir=."], "micro_interpreter.h: there is no such"),
        (["--keep=k.zip", "--only=sine", "--only=nobody"], "--only='nobody': there are attention"),
    ],
)
def test_the_arena_benchmark_looks_at_what_it_is_given_first(tmp_path, arguments, words):
    (tmp_path / "lib.a").write_bytes(b"")
    arguments = [text.format(file=tmp_path / "lib.a") for text in arguments]
    done = run_command("converters.benchmarks.arena", *arguments)
    assert done.returncode == 1
    assert words in done.stdout + done.stderr


def test_accuracy_names_the_command_that_measures_an_encoder():
    with pytest.raises(errors.RunError, match=r"an encoder.*converters.benchmarks.shots"):
        accuracy.find_runs([str(ROOT / "zoo/encoder")])
    assert accuracy.find_runs([str(ROOT / "zoo/snips")]) == [ROOT / "zoo/snips"]
