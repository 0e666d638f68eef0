"""The fuse pass and the generated C++, as far as they go without TFLM at hand."""

import dataclasses
import pathlib
import re

import numpy as np
import pytest

from converters.firmware import tflm_files
from converters.kernels import fused_graph, params, recognize, reference
from converters.tflite import reader, writer
from embbert_tf.data import tokenizer
from embbert_tf.model import special_tokens
from tests.support import portable_models
from tests.support.runs import run_command

ROOT = pathlib.Path(__file__).resolve().parents[3]
CASES = [
    ("small", portable_models.SMALL, 48, False),
    ("pair", portable_models.SMALL, 64, True),
    ("wide", portable_models.WIDE, 48, False),
    ("one_layer", portable_models.ONE_LAYER, 32, False),
    ("padded", portable_models.PADDED, 40, True),
]


@pytest.fixture(scope="module", params=CASES, ids=[case[0] for case in CASES])
def portable(request):
    _, config, length, pair = request.param
    folded = portable_models.random_folded(config)
    return writer.write(portable_models.build(folded, length, pair=pair).graph)


@pytest.fixture(scope="module")
def small():
    folded = portable_models.random_folded(portable_models.SMALL)
    return writer.write(portable_models.build(folded, 48).graph)


def assert_equal_params(left, right):
    for field in dataclasses.fields(left):
        np.testing.assert_array_equal(
            getattr(left, field.name), getattr(right, field.name), err_msg=field.name
        )


def test_fused_file_holds_the_kernels_integers(portable):
    wanted = params.model_params(recognize.extract(portable))
    found = fused_graph.read_params(fused_graph.fuse(portable))
    assert_equal_params(wanted.embed, found.embed)
    assert len(wanted.blocks) == len(found.blocks)
    for left, right in zip(wanted.blocks, found.blocks, strict=True):
        assert_equal_params(left, right)
    assert_equal_params(wanted.head, found.head)


def test_fused_file_answers_as_the_portable_files_kernels(portable):
    model = recognize.extract(portable)
    wanted = reference.Reference(model)
    found = reference.Reference(fused_graph.read_params(fused_graph.fuse(portable)))
    rng = np.random.default_rng(3)
    for n in (1, 7, model.max_length):
        ids = [special_tokens.CLS, *rng.integers(5, model.vocab_size, n - 1).tolist()]
        if model.pair and n > 2:
            ids[n // 2] = special_tokens.SEP
        segments = tokenizer.segment_ids(ids)
        np.testing.assert_array_equal(wanted.infer(ids, segments), found.infer(ids, segments))


def test_inputs_and_outputs_stay(portable):
    before, after = reader.read(portable), reader.read(fused_graph.fuse(portable))
    for left, right in zip(
        before.inputs + before.outputs, after.inputs + after.outputs, strict=True
    ):
        assert (left.name, left.shape, left.type_name) == (
            right.name,
            right.shape,
            right.type_name,
        )
        assert left.scale == right.scale
        assert left.zero_point == right.zero_point
    assert len(after.ops) == len(fused_graph.read_params(fused_graph.fuse(portable)).blocks) + 2
    assert fused_graph.is_fused(after)
    assert not fused_graph.is_fused(before)


def test_options_are_aligned_for_the_kernels(small):
    data = fused_graph.fuse(small)
    for op in reader.read(data).ops:
        at = data.find(op.custom_options)
        assert at > 0
        assert at % 4 == 0, op.custom_code


def test_weights_are_aligned_in_the_file(small):
    data = fused_graph.fuse(small)
    for op in reader.read(data).ops:
        for tensor in op.inputs:
            if tensor is not None and tensor.data is not None and tensor.nbytes >= 64:
                assert data.find(tensor.data.tobytes()) % 16 == 0, tensor.name


def test_options_of_another_version_are_refused(small):
    graph = reader.read(fused_graph.fuse(small))
    graph.ops[1].custom_options = b"\x02" + graph.ops[1].custom_options[1:]
    with pytest.raises(fused_graph.FusedGraphError, match="fuse the portable file again"):
        fused_graph.read_params(writer.write(graph))


def test_portable_file_is_no_fused_one(small):
    with pytest.raises(fused_graph.FusedGraphError, match="EMBBERT_EMBED"):
        fused_graph.read_params(small)


def run_fuse(*arguments):
    return run_command("converters.fuse", *arguments)


def test_command_fuses(small, tmp_path):
    (tmp_path / "p.tflite").write_bytes(small)
    done = run_fuse(tmp_path / "p.tflite", tmp_path / "f.tflite")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f.tflite").read_bytes() == fused_graph.fuse(small)
    assert "5 operators" in done.stdout


def test_unknown_graph_is_left_as_it_is(small, tmp_path):
    graph = reader.read(small)
    op = next(op for op in graph.ops if op.kind == "LOGISTIC")
    op.kind = "TANH"
    strange = writer.write(graph)
    with pytest.raises(recognize.NotEmbBertError):
        fused_graph.fuse(strange)
    (tmp_path / "p.tflite").write_bytes(strange)
    done = run_fuse(tmp_path / "p.tflite", tmp_path / "f.tflite")
    assert done.returncode == 1
    assert "left as it is" in done.stderr
    assert "LOGISTIC" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "f.tflite").read_bytes() == strange


def test_command_refuses_what_is_no_tflite(tmp_path):
    (tmp_path / "p.tflite").write_bytes(b"not a model at all")
    done = run_fuse(tmp_path / "p.tflite", tmp_path / "f.tflite")
    assert done.returncode == 1
    assert "TFL3" in done.stderr
    assert not (tmp_path / "f.tflite").exists()


def test_input_indices_in_cpp_are_those_of_the_pass():
    source = (ROOT / "tflm_app/tflm/embbert_ops.cc").read_text()
    constants = dict(re.findall(r"constexpr int k(\w+) = (\d+);", source))
    for prefix, names in (
        ("Embed", fused_graph.EMBED_INPUTS),
        ("Block", fused_graph.BLOCK_INPUTS),
        ("Head", fused_graph.HEAD_INPUTS),
    ):
        for index, name in enumerate(names):
            camel = "".join(part.capitalize() for part in name.split("_"))
            assert constants[prefix + camel] == str(index), prefix + camel
        assert constants[prefix + "Inputs"] == str(len(names))
    header = (ROOT / "tflm_app/tflm/embbert_ops.h").read_text()
    assert set(re.findall(r'AddCustom\("(\w+)"', header)) == set(fused_graph.OPERATORS)


def test_resolver_of_the_portable_graph(small):
    graph = reader.read(small)
    kinds = dict(tflm_files.operators(graph))
    assert set(kinds) == {op.kind for op in graph.ops}
    assert kinds["FULLY_CONNECTED"] and kinds["SOFTMAX"] and kinds["ADD"]
    # The padding mask is made in int32.
    assert not kinds["MUL"]
    assert not kinds["MINIMUM"]
    text = tflm_files.resolver_header(graph, "a test")
    assert f"MicroMutableOpResolver<{len(kinds)}>" in text
    assert "resolver.AddFullyConnected(tflite::Register_FULLY_CONNECTED_INT8())" in text
    assert "resolver.AddMul()" in text
    assert text.count("resolver.Add") == len(kinds)


def test_resolver_of_the_fused_graph(small):
    text = tflm_files.resolver_header(reader.read(fused_graph.fuse(small)), "a test")
    assert "MicroMutableOpResolver<3>" in text
    assert 'resolver.AddCustom("EMBBERT_BLOCK", Register_BLOCK())' in text


def test_unknown_operator_is_refused(small):
    graph = reader.read(small)
    graph.ops[0].kind = "COMPLEX_ABS"
    with pytest.raises(tflm_files.TflmError, match="COMPLEX_ABS"):
        tflm_files.operators(graph)


def test_graph_with_other_inputs_is_refused(small):
    graph = reader.read(small)
    labels = graph.outputs[0].shape[-1]
    tflm_files.check(graph, labels, 48)
    with pytest.raises(tflm_files.TflmError, match="INT32"):
        tflm_files.check(graph, labels, 64)
    with pytest.raises(tflm_files.TflmError, match="INT8"):
        tflm_files.check(graph, labels + 1, 48)
