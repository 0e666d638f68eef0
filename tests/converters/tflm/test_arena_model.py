"""The predicted arena against what was measured on emulated boards, without TFLM at hand."""

import functools
import json
import math

import pytest

from converters.benchmarks import arena
from converters.kernels import fused_graph
from converters.tflite import reader
from converters.tflm import arena_model, cmsis_nn, memory_planner, target
from embbert_tf import errors
from tests.support import tflite_cases

ROOT = tflite_cases.ROOT
ROWS = json.loads((ROOT / "converters/benchmarks/arena.json").read_text())["rows"]
KEPT = set(tflite_cases.kept_names())


@functools.cache
def graphs_of(name: str):
    """Subgraphs of a measured model; None where the file is not this repository's to keep."""
    if name in KEPT:
        return reader.read_all(tflite_cases.kept(name))
    if not name.startswith("zoo/"):
        return None
    data = (ROOT / name.removesuffix(", fused") / "model.tflite").read_bytes()
    return reader.read_all(fused_graph.fuse(data) if name.endswith(", fused") else data)


def test_the_table_has_the_models_and_targets_that_it_should():
    targets = {(row["target"], row["kernels"]) for row in ROWS}
    assert {("cortex-m4", "cmsis_nn"), ("cortex-m55", "cmsis_nn")} <= targets
    for chip in (("cortex-m4", "cmsis_nn"), ("cortex-m55", "cmsis_nn")):
        names = {r["model"] for r in ROWS if (r["target"], r["kernels"]) == chip}
        zoo = {f"zoo/{path.parent.name}" for path in (ROOT / "zoo").glob("*/model.tflite")}
        assert zoo <= names
        assert any(name.endswith("fused") for name in names)
        assert len(names - zoo) >= 10


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda r: f"{r['model']}-{r['target']}-{r['kernels']}".replace(" ", "_")
)
def test_an_arena_of_the_predicted_size_suffices_and_is_hardly_larger(row):
    assert arena.within(row), row
    graphs = graphs_of(row["model"])
    if graphs is None:
        return  # TFLM's own example: the row says what was predicted from its file.
    found = arena_model.predict(graphs, target.make(row["target"], row["kernels"]))
    assert row["measured"] <= found.bytes <= row["measured"] + max(256, 0.03 * row["measured"])
    assert found.bytes % 16 == 0
    assert found.bytes >= memory_planner.align(found.head_bytes + found.tail_bytes)
    assert (found.unknown, found.refused) == ((), "")


def test_targets_are_chosen_by_name():
    assert len(target.chosen()) == len(target.EXTENSIONS) * 2
    assert [t.label for t in target.chosen("cortex-m4")] == [
        "cortex-m4, CMSIS-NN",
        "cortex-m4, reference kernels",
    ]
    with pytest.raises(errors.OptionError, match=r"'cortex-a7': choose one of cortex-m0, "):
        target.make("cortex-a7", "reference")
    with pytest.raises(errors.OptionError, match=r"kernels 'fast': choose one of cmsis_nn"):
        target.make("cortex-m4", "fast")


def test_reference_kernels_take_the_same_on_every_core():
    graphs = graphs_of("zoo/snips")
    found = {arena_model.predict(graphs, t).bytes for t in target.chosen(None, "reference")}
    assert found == {27_712}


def test_operators_without_a_known_size_are_named():
    chip = target.make("cortex-m4", "cmsis_nn")
    custom = arena_model.predict(reader.read_all(tflite_cases.custom("MINE")), chip)
    lacking = arena_model.predict(reader.read_all(tflite_cases.lacking()), chip)
    assert (custom.unknown, lacking.unknown) == (("MINE",), ("ATAN2",))


def test_resource_variables_are_counted_and_lie_in_the_tail():
    graphs = reader.read_all(tflite_cases.kept("streaming"))
    variables = arena_model.resource_variables(graphs)
    assert len(variables.names) == 1
    assert list(variables.bytes_of.values()) == [4 * 20]
    found = arena_model.predict(graphs, target.make("cortex-m4", "reference"))
    handles = [op.outputs[0].nbytes for op in graphs[0].ops if op.kind == "VAR_HANDLE"]
    assert handles
    assert found.tail_bytes > 4 * 20


def test_a_kernel_that_refuses_what_others_take_is_named():
    """CMSIS-NN's dense layer takes no int16 with a scale for each channel; the reference's does."""
    x = tflite_cases.tensor("x", 1, 8, kind="int16", scale=0.01)
    y = tflite_cases.tensor("y", 1, 4, kind="int16", scale=0.01)
    w = tflite_cases.tensor("w", kind="int8", data=[[1] * 8] * 4, scale=[0.1, 0.2, 0.3, 0.4])
    dense = tflite_cases.op("FULLY_CONNECTED", [x, w, None], [y])
    graph = tflite_cases.graph_lib.Graph([x], [y], [dense], tensors=[x, w, y])
    refused = [
        arena_model.predict([graph], target.make("cortex-m4", kernels)).refused
        for kernels in target.KERNELS
    ]
    assert refused == ["CMSIS-NN's FULLY_CONNECTED takes no int16 with a scale per channel", ""]


# (layer, window, bytes without extension, with DSP, with Helium), from CMSIS-NN's documentation.
WINDOWS = [
    # 27 taps: two columns of int16 in whole words, or four of int8 in whole vectors.
    (cmsis_nn.convolution_int8, ((8, 8, 3), (3, 3, 3), (8, 8, 4)), 112, 112, 128),
    # A point-wise layer gathers nothing.
    (cmsis_nn.convolution_int8, ((8, 8, 16), (1, 1, 16), (8, 8, 4)), 0, 0, 0),
    (cmsis_nn.convolution_int16, ((8, 8, 3), (3, 3, 3), (8, 8, 4)), 108, 108, 256),
    # Three by three with the usual padding runs in place; a larger window widens its input.
    (cmsis_nn.depthwise_int8, ((8, 8, 16), (3, 3, 1), (8, 8, 16)), 0, 0, 4464),
    (cmsis_nn.depthwise_int8, ((8, 8, 16), (5, 5, 1), (8, 8, 16)), 0, 800, 12400),
]


@pytest.mark.parametrize(("layer", "shape", "none", "dsp", "mve"), WINDOWS)
def test_scratch_of_cmsis_nn(layer, shape, none, dsp, mve):
    kernel = shape[1][0]
    window = cmsis_nn.Window(1, *shape, padding=(kernel // 2, kernel // 2))
    assert [layer(window, e) for e in ("none", "dsp", "mve")] == [none, dsp, mve]


def test_scratch_grows_with_what_it_holds():
    assert cmsis_nn.fully_connected_int8(10, "mve") == 40
    assert cmsis_nn.average_pool(7, "dsp") == 28
    assert cmsis_nn.svdf_int8(6, "mve") == 24
    window = cmsis_nn.Window(1, (8, 8, 32), (3, 3, 32), (16, 16, 4), (2, 2))
    columns, reversed_filter = cmsis_nn.transpose_convolution_int8(window, "dsp")
    assert columns == 2 * 2 * math.prod(window.kernel)
    assert reversed_filter == math.prod(window.kernel) * 4
