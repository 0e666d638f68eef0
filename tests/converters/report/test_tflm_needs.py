"""`converters.tflm_report` on models of all origins, and on files that mean harm."""

import os
import pathlib
import random
import re
import subprocess
import sys

import numpy as np
import pytest

from converters.report import arena_map
from converters.tflite import graph as graph_lib
from converters.tflite import reader, writer
from converters.tflm import timeline
from tests.support import portable_models as pm

ROOT = pathlib.Path(__file__).resolve().parents[3]


def report(path, *arguments, cwd=None):
    """Runs the command; returns (exit status, stdout, stderr)."""
    # In a process of its own: it forks, which a process with TensorFlow's threads must not.
    result = subprocess.run(
        [sys.executable, "-m", "converters.tflm_report", str(path), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=300,
        check=False,
    )
    return result.returncode, result.stdout, result.stderr


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def int8_converter(tf, function, shape):
    """The ordinary full-int8 conversion of a function of one float32 input."""
    signature = [tf.TensorSpec(shape, tf.float32)]
    concrete = tf.function(function, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    rng = np.random.default_rng(0)
    converter.representative_dataset = lambda: (
        [rng.normal(size=shape).astype(np.float32)] for _ in range(4)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


@pytest.fixture(scope="module")
def models(tf, tmp_path_factory):
    """Models of other origins than ours."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    kernel = tf.constant(rng.normal(size=(3, 3, 1, 8)), tf.float32)
    deep = tf.constant(rng.normal(size=(3, 3, 8, 1)), tf.float32)
    dense = tf.constant(rng.normal(size=(8, 4)), tf.float32)

    def vision(x):
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, 2, "SAME"))
        x = tf.nn.relu6(tf.nn.depthwise_conv2d(x, deep, [1, 1, 1, 1], "SAME"))
        return tf.nn.softmax(tf.reduce_mean(x, [1, 2]) @ dense)

    def lacking(x):
        return tf.cast(tf.reduce_any(x > 0.5, axis=1), tf.float32) + tf.math.atan2(x, x)[:, 0]

    keras = tf.keras
    lstm = keras.Sequential(
        [keras.Input(batch_shape=(1, 12, 6)), keras.layers.LSTM(10), keras.layers.Dense(3)]
    )

    def loop(x):
        return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y) * 2.0), [0, x])[1]

    files = {
        "vision": int8_converter(tf, vision, [1, 16, 16, 1]),
        "lstm": tf.lite.TFLiteConverter.from_keras_model(lstm).convert(),
    }
    for name, function, shape in (("lacking", lacking, [1, 8]), ("loop", loop, [1, 32])):
        concrete = tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32)])
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [concrete.get_concrete_function()], tf.Module()
        )
        files[name] = converter.convert()
    files["portable"] = pm.to_bytes(pm.build(pm.random_folded(pm.SMALL), 32))
    files["greedy"] = pm.to_bytes(pm.build(pm.random_folded(pm.SMALL), 32, offline=False))
    for name, data in files.items():
        (folder / f"{name}.tflite").write_bytes(data)
    import tflite_micro

    for path in pathlib.Path(tflite_micro.__file__).parent.rglob("*.tflite"):
        (folder / "packaged.tflite").write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("vision", {"AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected", "AddSoftmax"}),
        ("lstm", {"AddUnidirectionalSequenceLSTM", "AddFullyConnected"}),
        ("loop", {"AddWhile", "AddTanh", "AddMul", "AddLess", "AddAdd"}),
        ("packaged", {"AddFullyConnected"}),
        ("portable", {"AddSoftmax", "AddRsqrt", "AddGather", "AddDepthwiseConv2D", "AddLogistic"}),
        ("greedy", {"AddSoftmax", "AddRsqrt", "AddGather", "AddDepthwiseConv2D", "AddLogistic"}),
    ],
)
def test_models_of_any_origin(name, methods, models, tmp_path):
    status, out, err = report(models / f"{name}.tflite", f"--picture={tmp_path / 'a.png'}")
    assert (status, err) == (0, "")
    found = set(re.findall(r"TF_LITE_ENSURE_STATUS\(resolver\.(\w+)\(\)\);", out))
    assert methods <= found
    assert f"tflite::MicroMutableOpResolver<{len(found)}>" in out
    assert "TFLM has no" not in out
    measured = re.search(
        r"head ([\d,]+) \+ tail ([\d,]+) = ([\d,]+) bytes used; the smallest that runs: ([\d,]+)",
        out,
    )
    head, tail, used, smallest = (int(text.replace(",", "")) for text in measured.groups())
    assert head + tail == used <= smallest
    assert "the map below agrees with TFLM to the byte" in out
    assert out.count("<- peak") == 1
    assert re.search(r"peak: [\d,]+ bytes in use at \S.*; alive there:", out)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert ("offline plan places" in out) == (name == "portable")


def test_operators_that_tflm_lacks_are_named_and_the_rest_is_printed(models, tmp_path):
    status, out, err = report(models / "lacking.tflite", f"--picture={tmp_path / 'a.png'}")
    assert (status, err) == (0, "")
    assert "// TFLM has no REDUCE_ANY." in out
    assert "TFLM lacks: ATAN2, REDUCE_ANY" in out
    assert "arena: not measured, TFLM cannot run the model: Didn't find op" in out
    assert "<- peak" in out
    assert (tmp_path / "a.png").exists()


def test_picture_is_named_after_the_model(models, tmp_path):
    assert report(models / "packaged.tflite", cwd=tmp_path)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["packaged.arena.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .tflite: the file identifier 'TFL3' is missing at byte 4"),
        (b"text,label\n" * 50, "not a .tflite"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "damaged .tflite"),
    ],
)
def test_no_tflite_is_one_line(content, message, tmp_path):
    (tmp_path / "x.tflite").write_bytes(content)
    status, out, err = report(tmp_path / "x.tflite", "--picture=")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert message in err


def test_missing_file_is_one_line(tmp_path):
    status, out, err = report(tmp_path / "none.tflite")
    assert (status, out) == (1, "")
    reason = "cannot be opened (No such file or directory)"
    assert err == f"tflm_report: {tmp_path / 'none.tflite'}: {reason}\n"


def test_time_limit_is_one_line(models):
    status, _, err = report(models / "vision.tflite", "--timeout=0.001", "--picture=")
    assert status == 1
    assert err.endswith("given up after 0.001 seconds; allow more time\n")


def test_hostile_names_stay_out_of_terminal_and_code(tmp_path):
    x = graph_lib.Tensor("x\x1b[31mred\n", (1, 4), np.int8, 1.0)
    y = graph_lib.Tensor("y" * 5000, (1, 4), np.int8, 1.0)
    op = graph_lib.Op("CUSTOM", [x], [y], custom_code="evil\n#include </etc/passwd>\x07")
    (tmp_path / "x.tflite").write_bytes(writer.write(graph_lib.Graph([x], [y], [op])))
    status, out, _ = report(tmp_path / "x.tflite", "--picture=")
    assert status == 0
    assert "\x1b" not in out
    assert "\x07" not in out
    assert not re.search(r"^#include </etc", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) < 800


def test_a_plan_that_does_not_fit_the_file_is_said(tmp_path):
    graph = pm.build(pm.random_folded(pm.ONE_LAYER), 8).graph
    graph.metadata["OfflineMemoryAllocation"] = graph.metadata["OfflineMemoryAllocation"][:-4]
    (tmp_path / "x.tflite").write_bytes(writer.write(graph))
    status, out, err = report(tmp_path / "x.tflite", "--picture=")
    assert (status, err) == (0, "")
    assert re.search(r"no map of the arena: offline plan for \d+ tensors, but the file has", out)


def test_a_subgraph_that_calls_itself_is_said(models, tmp_path):
    """The loop model's WHILE made to name its own graph as its body."""
    graphs = reader.read_all((models / "loop.tflite").read_bytes())
    loop = next(op for op in graphs[0].ops if op.kind == "WHILE")
    loop.options.bodySubgraphIndex = 0
    with pytest.raises(timeline.ArenaError, match=r"call each other without end|to run"):
        arena_map.build(graphs)
    loop.options.bodySubgraphIndex = 77
    with pytest.raises(timeline.ArenaError, match="calls subgraph 77"):
        arena_map.build(graphs)


def test_damaged_files_end_in_one_line_or_a_report(models, tmp_path):
    """A few whole runs; `test_convert_flatbuffer` fuzzes the reader by the thousand."""
    rng = random.Random(5)
    sources = [(models / f"{name}.tflite").read_bytes() for name in ("vision", "lstm", "portable")]
    statuses = []
    for number in range(6):
        data = bytearray(sources[number % 3])
        for _ in range(3):
            at = rng.randrange(0, len(data) - 4) & ~3
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0\0\0\x10"])
        if number % 2:
            at = rng.randrange(len(data) - 2048, len(data) - 64)
            data[at : at + 8] = rng.randbytes(8)
        path = tmp_path / "x.tflite"
        path.write_bytes(data)
        status, _, err = report(path, "--picture=", "--timeout=60")
        assert status in (0, 1)
        assert err.count("\n") == status, err
        assert "Traceback" not in err
        statuses.append(status)
    assert 1 in statuses
