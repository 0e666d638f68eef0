"""Graphs for Ethos-U: no operator that Vela leaves to the CPU, and the same answers."""

import dataclasses

import numpy as np
import pytest

import converters
from converters.kernels import recognize
from converters.report import vela
from embbert_tf import errors
from tests.support import portable_models as pm

# Chunks in groups, so that rows are cut, and a window that starts before the first row.
CUT = ((12, 8), (12,))
LENGTH = 32


@pytest.fixture(scope="module", params=[False, True], ids=["single", "pair"])
def graphs(request):
    """(whether it reads pairs, the default graph, the one for an NPU) of random weights."""
    folded = pm.random_folded(pm.SMALL)
    made = [
        pm.build(folded, LENGTH, groups=CUT, pair=request.param, npu=n) for n in ("", "ethos-u55")
    ]
    return request.param, *made


def test_no_operator_is_one_that_vela_refuses(graphs):
    pair, _, built = graphs
    lookups = [op for op in built.graph.ops if op.kind == "GATHER"]
    # Of the token and of the segment: all that reads ids.
    assert len(lookups) == 1 + pair
    assert all(op.inputs[0].data is not None for op in lookups)
    for op in built.graph.ops:
        if op.kind == "FULLY_CONNECTED":
            assert op.inputs[2] is None or op.inputs[2].data is not None
        if op.kind == "MINIMUM":
            quantized = {(t.scale, t.zero_point) for t in [*op.inputs, *op.outputs]}
            assert len(quantized) == 1
        if op.kind != "GATHER":
            computed = [t for t in [*op.inputs, *op.outputs] if t is not None and t.data is None]
            assert {t.dtype for t in computed} == {np.dtype(np.int8)}


def test_answers_are_those_of_the_default_graph_to_the_bit(graphs):
    pair, default, built = graphs
    sequences = pm.random_sequences(pm.SMALL, LENGTH, pair=pair)
    one, other = (
        pm.tflm_logits(pm.to_bytes(made), sequences, LENGTH, pair) for made in (default, built)
    )
    assert np.ptp(one, axis=0).max() > 0
    np.testing.assert_array_equal(one, other)


def test_weights_can_be_read_back(graphs):
    _, default, built = graphs
    one, other = (recognize.extract(pm.to_bytes(made)) for made in (default, built))
    np.testing.assert_equal(dataclasses.asdict(other), dataclasses.asdict(one))


def test_int16_is_refused():
    with pytest.raises(ValueError, match="npu"):
        pm.graph.PortableGraph(
            pm.random_folded(pm.ONE_LAYER), {}, 8, int16=pm.INT16, npu="ethos-u85"
        )
    with pytest.raises(errors.OptionError, match="npu must be one of"):
        converters.ConvertOptions(npu="ethos-u99")


@pytest.mark.skipif(vela.program() is None, reason="needs Vela: pip install ethos-u-vela")
def test_vela_leaves_nothing_but_look_ups_to_the_cpu(graphs):
    pair, _, built = graphs
    data = pm.to_bytes(built)
    assert vela.compile_for(data, "ethos-u85-256").on_cpu == ()
    assert vela.compile_for(data, "ethos-u55-128").on_cpu == ("GATHER",) * (1 + pair)
