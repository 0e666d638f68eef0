"""FULLY_CONNECTED filters of 4 bits: what is packed, that TFLM runs it, what it refuses."""

import numpy as np
import pytest
from tflite_micro.python.tflite_micro import runtime

from converters.portable import int4_filters
from converters.tflite import reader, writer
from tests.support import portable_models
from tests.support.runs import run_command


def unpacked(tensor_bytes, shape):
    """The codes of a packed filter, as TFLM reads them: the low nibble first."""
    nibbles = np.stack([tensor_bytes & 15, tensor_bytes >> 4], axis=1).ravel().astype(np.int8)
    return (np.where(nibbles > 7, nibbles - 16, nibbles)[: int(np.prod(shape))]).reshape(shape)


@pytest.fixture(scope="module", name="tflite")
def _tflite():
    folded = portable_models.random_folded(portable_models.SMALL)
    return writer.write(portable_models.build(folded, 48).graph)


def run(tflite, ids):
    interpreter = runtime.Interpreter.from_bytes(tflite, arena_size=1 << 20)
    interpreter.set_input(ids, 0)
    interpreter.invoke()
    return interpreter.get_output(0).astype(int)


def test_filters_of_one_scale_are_packed_and_tflm_runs_them(tflite):
    packed = int4_filters.pack(tflite)
    assert packed.filters > 3 and len(packed.tflite) < len(tflite)
    before, after = (
        [op for op in reader.read(data).ops if op.kind == "FULLY_CONNECTED"]
        for data in (tflite, packed.tflite)
    )
    names = [op.inputs[1].type_name for op in after]
    assert names.count("INT4") == packed.filters
    assert names.count("INT8") >= packed.left
    for one, other in zip(before, after, strict=True):
        if other.inputs[1].type_name == "INT4":
            ratio = float(other.inputs[1].scale) / float(one.inputs[1].scale)
            assert np.size(other.inputs[1].scale) == 1 and 4 <= ratio <= 20
            if one.inputs[2] is not None:
                was = one.inputs[2].data * float(one.inputs[2].scale)
                now = other.inputs[2].data * float(other.inputs[2].scale)
                np.testing.assert_allclose(now, was, atol=float(other.inputs[2].scale))
    ids = np.zeros((1, 48), np.int32)
    ids[0, :6] = [2, 20, 40, 60, 80, 100]
    span = np.ptp(run(tflite, ids))
    assert np.abs(run(packed.tflite, ids) - run(tflite, ids)).max() <= max(8, span // 3)


def test_a_bias_that_serves_two_filters_leaves_both_as_they_are(tflite):
    graph = reader.read(tflite)
    ops = [
        op for op in graph.ops if op.kind == "FULLY_CONNECTED" and np.size(op.inputs[1].scale) == 1
    ]
    one = next(op for op in ops if op.inputs[2] is not None)
    other = next(
        op for op in ops
        if op is not one and op.inputs[2] is not None and op.inputs[2].shape == one.inputs[2].shape
    )  # fmt: skip
    other.inputs[2] = one.inputs[2]
    packed = int4_filters.pack(writer.write(graph))
    assert packed.filters == int4_filters.pack(tflite).filters - 2
    kept = [op.inputs[1].type_name for op in reader.read(packed.tflite).ops if len(op.inputs) > 1]
    assert kept.count("INT4") == packed.filters


def test_more_subgraphs_than_one_are_refused(tflite, monkeypatch):
    graph = reader.read(tflite)
    graph.other_subgraphs = 1
    monkeypatch.setattr(reader, "read", lambda data: graph)
    with pytest.raises(int4_filters.Int4FilterError, match="2 subgraphs"):
        int4_filters.pack(tflite)


def test_codes_are_the_nearest_of_the_step():
    class Filter:
        data = np.array([[-127, 100], [3, -40], [70, 15]], np.int8)
        scale, dtype, type_name = np.float32(0.5), np.dtype(np.int8), "INT8"

    original = Filter.data.astype(float)
    tensor = Filter()
    step = int4_filters._pack_tensor(tensor)
    codes = unpacked(tensor.data, (3, 2))
    np.testing.assert_array_equal(codes, np.clip(np.round(original / step), -7, 7))
    assert tensor.scale == np.float32(0.5 * step)


def test_the_command_packs_a_file(tmp_path, tflite):
    source, target = tmp_path / "one.tflite", tmp_path / "other.tflite"
    source.write_bytes(tflite)
    done = run_command("converters.pack_filters", source, target)
    assert done.returncode == 0 and f"from {len(tflite):,}" in done.stdout, done.stderr
    assert target.read_bytes() == int4_filters.pack(tflite).tflite
    done = run_command("converters.pack_filters", target, tmp_path / "again.tflite")
    assert done.returncode == 1 and "nothing to pack" in done.stderr
    assert not (tmp_path / "again.tflite").exists()


@pytest.mark.slow
def test_the_benchmark_prints_a_row_for_each(tmp_path):
    done = run_command("converters.benchmarks.filters", "--model=zoo/snips_small")
    assert done.returncode == 0, done.stderr
    heads, _, eight, four = done.stdout.strip().splitlines()
    size, arena = heads.split("|").index(" `.tflite` "), heads.split("|").index(" arena, host ")

    def number(line, column):
        return int(line.split("|")[column].replace(",", ""))

    assert "8 bits" in eight and "4 bits" in four
    assert number(four, size) < number(eight, size)
    assert number(four, arena) > number(eight, arena)  # its kernel unpacks into it
