"""EMBBERT_SELECTIVE_SCAN on TFLM: on this machine cut at the scans, in the emulator as it is."""

import dataclasses
import os
import re

import numpy as np
import pytest

from converters.firmware import tflm_files
from converters.kernels import fixed_point, selective_scan
from converters.tflite import reader, writer
from converters.tflm import arena_model, runner, scan_runner, target
from tests.support import portable_models, scan_graphs
from tests.support.firmware_model import SENTENCES
from tests.tflm_app.test_tflm_device import make, write_model

LABELS, LENGTH, ARENA = 4, 48, 1 << 20

on_boards = pytest.mark.skipif(
    not (os.environ.get("TFLM_DIR") and os.environ.get("TFLM_LIB")),
    reason="TFLM for Cortex-M is the user's to bring: set TFLM_DIR and TFLM_LIB (docs/tflm.md)",
)


@pytest.fixture(scope="module")
def model():
    return write_model(False)


@pytest.fixture(scope="module")
def graph(model):
    return scan_graphs.classifier(portable_models.SMALL.vocab_size, LENGTH, LABELS)


@pytest.fixture(scope="module")
def tflite(graph):
    return writer.write(graph)


def test_parts_on_this_machine_are_the_whole(graph, tflite):
    """Every scan's input and output, seen by a graph that gives them all out."""
    whole = reader.read(tflite)
    scans = [op for op in whole.ops if scan_runner.is_scan(op)]
    assert len(scans) == 2
    seen = [tensor for op in scans for tensor in [*op.inputs[:4], *op.outputs]]
    opened = dataclasses.replace(whole, outputs=[*whole.outputs, *seen])
    run = scan_runner.ScanInterpreter(opened, ARENA)
    ids = np.arange(LENGTH, dtype=np.int32)[np.newaxis]
    run.set_input(ids, 0)
    run.invoke()
    values = [run.get_output(index) for index in range(len(opened.outputs))]
    for number, op in enumerate(scans):
        *inputs, y = values[1 + 5 * number : 6 + 5 * number]
        params = selective_scan.read_params(op)
        np.testing.assert_array_equal(selective_scan.scan(params, *inputs), y)
        assert len(np.unique(y)) > 50
    closed = scan_runner.interpreter(tflite, ARENA)
    closed.set_input(ids, 0)
    closed.invoke()
    np.testing.assert_array_equal(closed.get_output(0), values[0])


def test_a_graph_without_scans_is_tflms_own(model):
    assert not isinstance(scan_runner.interpreter(model.tflite, ARENA), scan_runner.ScanInterpreter)


def test_params_come_back_from_the_file(graph, tflite):
    pairs = [[op for op in g.ops if scan_runner.is_scan(op)] for g in (graph, reader.read(tflite))]
    for made, read in zip(*pairs, strict=True):
        one, two = selective_scan.read_params(made), selective_scan.read_params(read)
        assert one.options() == two.options()
        for name, value in one.tensors().items():
            np.testing.assert_array_equal(value, two.tensors()[name])
    op = pairs[0][0]
    for wrong in (
        dataclasses.replace(op, custom_options=op.custom_options[:-4]),
        dataclasses.replace(op, custom_options=b"HED1" + op.custom_options[4:]),
        dataclasses.replace(op, inputs=op.inputs[:5]),
        dataclasses.replace(op, inputs=[*op.inputs[:5], op.inputs[0]]),
    ):
        with pytest.raises(fixed_point.KernelParamsError, match="EMBBERT_SELECTIVE_SCAN"):
            selective_scan.read_params(wrong)


def test_resolver_registers_the_scan(graph):
    text = tflm_files.resolver_header(graph, "a test")
    assert '#include "embbert_scan_op.h"' in text and "embbert_ops.h" not in text
    assert 'AddCustom("EMBBERT_SELECTIVE_SCAN", Register_SELECTIVE_SCAN())' in text


@on_boards
def test_board_answers_as_this_machine(model, tflite, tmp_path):
    (tmp_path / "scans.tflite").write_bytes(tflite)
    logits = tmp_path / "logits.bin"
    csv = model.path / "texts.csv"
    make(model.path, tmp_path / "scans.tflite", "eval", f"CSV={csv}", f"LOGITS={logits}")
    found = np.fromfile(logits, np.int8).reshape(len(SENTENCES), LABELS)
    here = runner.Runner(tflite, LENGTH, pair=False)
    wanted = [here.logits(model.encode(text, None)) for text in SENTENCES]
    np.testing.assert_array_equal(found, wanted)
    assert len(np.unique(found, axis=0)) > len(SENTENCES) // 2
    # Its arena is what the file alone tells.
    text = make(model.path, tmp_path / "scans.tflite", "arena").stdout
    smallest = int(re.search(r"answers correctly: (\d+)", text)[1])
    chip = target.make("cortex-m4", "cmsis_nn")
    assert arena_model.predict([reader.read(tflite)], chip).bytes == smallest


@pytest.mark.slow
@on_boards
@pytest.mark.parametrize("fault", ["options", "constant", "shape"])
def test_board_refuses_a_wrong_scan(model, graph, tmp_path, fault):
    ops = list(graph.ops)
    place = next(number for number, op in enumerate(ops) if scan_runner.is_scan(op))
    op = ops[place]
    if fault == "options":
        ops[place] = dataclasses.replace(op, custom_options=op.custom_options[:-4])
        message = "the kernels do not accept its options"
    elif fault == "constant":
        less = op.inputs[5].data[:-1]
        skip = dataclasses.replace(op.inputs[5], shape=less.shape, data=less)
        ops[place] = dataclasses.replace(op, inputs=[*op.inputs[:5], skip])
        message = "input 5 is not a constant of 16 elements"
    else:
        ops[place] = dataclasses.replace(
            op, inputs=[*op.inputs[:3], *[op.inputs[0]], *op.inputs[4:]]
        )
        message = "input 3 is not of type INT8 with 288 elements"
    path = tmp_path / f"{fault}.tflite"
    path.write_bytes(writer.write(dataclasses.replace(graph, ops=ops)))
    done = make(model.path, path, "run", "TEXT=x", check=False)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
