"""Inputs for the probe: ids within the tables that they are looked up in."""

import numpy as np
import pytest

from converters.tflite import reader
from converters.tflm import probe_inputs
from converters.tflm.probe_inputs import Bounds
from tests.support import tflite_cases


def bounds(data: bytes):
    return probe_inputs.allowed(reader.read_all(data))


def test_ids_are_rows_of_their_table():
    assert bounds(tflite_cases.look_up(1)) == [Bounds(0, 0)]
    assert bounds(tflite_cases.look_up(9, 3)) == [Bounds(-3, 5)]
    assert bounds(tflite_cases.embedding_lookup(7)) == [Bounds(0, 6)]
    assert bounds(tflite_cases.kept("sine")) == [None]


@pytest.mark.parametrize(
    ("steps", "low", "high"),
    [
        ([("SUB", 4, False)], 4, 6),
        ([("SUB", 4, True)], 2, 4),
        ([("MUL", 2, False)], 0, 1),
        ([("SUB", 10, False), ("MUL", 2, True)], 10, 11),
        ([("MUL", 2, False), ("SUB", 31, True)], 15, 15),
        ([("MUL", 3, False), ("ADD", -7, True)], 3, 3),
    ],
)
def test_ids_that_are_computed_with_constants(steps, low, high):
    assert bounds(tflite_cases.look_up_computed(*steps)) == [Bounds(low, high)]


def test_ids_of_the_zoo_and_of_its_fused_operators():
    data = (tflite_cases.ROOT / "zoo/snips/model.tflite").read_bytes()
    assert bounds(data) == [Bounds(0, 8191)]
    graph = tflite_cases.graph_lib.Graph
    ids, x = (tflite_cases.tensor(n, 1, 4, kind="int32") for n in ("ids", "x"))
    table = tflite_cases.tensor("token", kind="int8", data=np.zeros((50, 2)))
    embed = tflite_cases.op("CUSTOM", [ids, None, table], [x], custom_code="EMBBERT_EMBED")
    assert probe_inputs.allowed([graph([ids], [x], [embed])]) == [Bounds(1, 49)]


def test_bounds_pass_through_operators_that_hand_values_on():
    """A float that is cast, moved and cut before it indexes."""
    t, op = tflite_cases.tensor, tflite_cases.op
    x, whole, turned = t("x", 2, 3), t("whole", 2, 3, kind="int32"), t("turned", 3, 2, kind="int32")
    table, found = t("table", data=np.zeros((5, 4))), t("found", 3, 2, 4)
    ops = [
        op("CAST", [x], [whole]),
        op("TRANSPOSE", [whole, t("order", kind="int32", data=[1, 0])], [turned]),
        op("GATHER", [table, turned], [found], axis=1),
    ]
    graphs = [tflite_cases.graph_lib.Graph([x], [found], ops)]
    assert probe_inputs.allowed(graphs) == [Bounds(0, 3)]
    chosen = probe_inputs.choose(graphs, inferences=5)
    assert len(chosen) == 5
    values = np.stack([arrays[0] for arrays in chosen])
    assert values.dtype == np.float32
    assert set(np.unique(values)) <= {0, 1, 2, 3}


def test_other_inputs_vary():
    graphs = reader.read_all(tflite_cases.kept("sine"))
    values = [arrays[0].item() for arrays in probe_inputs.choose(graphs, inferences=8)]
    assert len(set(values)) > 3
    assert probe_inputs.constant(graphs, 1)[0][0].tolist() == [[1]]
