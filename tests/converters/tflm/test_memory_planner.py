"""The memory model against what TFLM records, and the plans that rest on it against each other."""

import functools

import numpy as np
import pytest

from converters.report import arena_map
from converters.tflite import reader
from converters.tflm import arena_probe, memory_planner, timeline
from tests.support import portable_models as pm

# (name, config, length, arguments of the builder)
CASES = [
    ("offline", pm.SMALL, 64, {}),
    ("greedy", pm.SMALL, 64, {"offline": False}),
    ("one chunk", pm.SMALL, 64, {"offline": False, "groups": ((64,),)}),
    ("many chunks", pm.SMALL, 64, {"offline": False, "groups": ((24,), (16, 16), (8,))}),
    ("pair, E=2", pm.WIDE, 47, {"offline": False, "pair": True}),
    ("pair, E=2, offline", pm.WIDE, 47, {"pair": True}),
    ("per channel", pm.WIDE, 16, {"per_channel": frozenset(["embed", "wq", "wz", "head"])}),
    ("one layer", pm.ONE_LAYER, 9, {}),
    ("int16", pm.SMALL, 64, {"int16": pm.INT16}),
    ("int16, greedy", pm.SMALL, 64, {"int16": pm.INT16, "offline": False}),
    (
        "int16, pair, many chunks",
        pm.WIDE,
        47,
        {"int16": pm.INT16, "pair": True, "groups": ((24,), (16, 7))},
    ),
    ("int16, reference", pm.REFERENCE, 64, {"int16": pm.INT16}),
    ("reference", pm.REFERENCE, 64, {}),
    ("reference, greedy", pm.REFERENCE, 64, {"offline": False}),
]


@functools.cache
def graph_of(name: str) -> pm.graph.PortableGraph:
    """A case, built once: the search for its cut takes longer than most tests."""
    config, length, arguments = next(case[1:] for case in CASES if case[0] == name)
    return pm.build(pm.random_folded(config), length, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param(
            name,
            arguments,
            marks=pytest.mark.slow if "int16" in name or "greedy" in name else (),
            id=name,
        )
        for name, _, _, arguments in CASES
    ],
)
def test_prediction_is_what_tflm_records(name, arguments, tmp_path):
    built = graph_of(name)
    path = tmp_path / "model.tflite"
    path.write_bytes(pm.to_bytes(built))
    recorded = arena_probe.measure(path)
    assert built.schedule.head_bytes == recorded["head_bytes"]
    assert built.schedule.tail_bytes == pytest.approx(recorded["tail_bytes"], rel=0.05)
    assert recorded["used_bytes"] <= recorded["smallest_bytes"]
    graphs = reader.read_all(path.read_bytes())
    arena = arena_map.build(graphs)
    assert arena.head_bytes == recorded["head_bytes"]
    assert max(arena.in_use) <= arena.head_bytes
    if not arguments.get("offline", True):
        plan = memory_planner.plan(built.graph)
        assert plan.head_bytes == recorded["head_bytes"]
        assert plan.peak_bytes <= plan.head_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    "int16",
    [frozenset(), pm.INT16],
    ids=["int8", "int16"],
)
@pytest.mark.parametrize(
    ("config", "pair"), [(pm.SMALL, False), (pm.WIDE, True)], ids=["small", "wide, pair"]
)
def test_logits_do_not_depend_on_plan_or_chunks(config, pair, int16):
    """Offline plan with its in-place tensors, TFLM's planner, other cuts: one answer."""
    folded, length = pm.random_folded(config, seed=3), config.max_length
    sequences = pm.random_sequences(config, length, count=12, seed=4, pair=pair)
    half = length // 2
    schedules = [
        {},
        {"offline": False},
        {"offline": False, "groups": ((length,),)},
        {"groups": ((half,), (length - half,))},
        {"groups": ((5, 3), (length - 8,))},
        {"groups": (*[(4,)] * 9, (length - 36,))},
    ]
    answers = []
    for schedule in schedules:
        tflite = pm.to_bytes(pm.build(folded, length, pair=pair, int16=int16, **schedule))
        answers.append(pm.tflm_logits(tflite, sequences, length, pair))
    assert len(np.unique(answers[0], axis=0)) > 3
    for schedule, answer in zip(schedules, answers, strict=True):
        np.testing.assert_array_equal(answer, answers[0], err_msg=str(schedule))


def test_answers_follow_one_another_without_a_trace():
    """The same text gives the same logits whatever ran before it in that arena."""
    folded = pm.random_folded(pm.SMALL)
    tflite = pm.to_bytes(pm.build(folded, 40))
    sequences = pm.random_sequences(pm.SMALL, 40, count=6)
    forwards = pm.tflm_logits(tflite, sequences, 40)
    backwards = pm.tflm_logits(tflite, sequences[::-1], 40)
    np.testing.assert_array_equal(forwards, backwards[::-1])


@pytest.mark.parametrize(("depth", "most"), [(14.0, 0), (None, 8)], ids=["deep", "default"])
def test_padding_hardly_reaches_the_logits(depth, most, monkeypatch):
    """A text has the same logits in a short graph and in a long one, full of padding.

    A padding key weighs exp(-depth) of the best key. Softmax's sum counts what is above 2^-19, so
    from a depth of 14 on padding vanishes; at the default depth of 10, which keeps the scores
    finer, a hundred padding keys take 0.5 % of the weight.
    """
    if depth is not None:
        monkeypatch.setattr(pm.ranges, "SCORE_DEPTH", depth)
    folded, short, long = pm.random_folded(pm.SMALL), 20, 64
    meter = pm.ranges.RangeMeter(folded)
    for ids in pm.random_sequences(pm.SMALL, long):
        meter.run(ids)
    ranges = meter.ranges("minmax")
    sequences = pm.random_sequences(pm.SMALL, short, count=8)
    answers = []
    for length in (short, long):
        built = pm.graph.PortableGraph(folded, ranges, length, groups=((length,),))
        answers.append(pm.tflm_logits(pm.to_bytes(built), sequences, length).astype(int))
    assert np.abs(answers[0] - answers[1]).max() <= most


@pytest.mark.parametrize("name", ["offline", "int16"])
def test_offline_plan_overwrites_only_what_is_dead(name):
    """Two tensors that share bytes while both live are a view or an in-place result."""
    graph = graph_of(name).graph
    plan = memory_planner.plan_offline(graph, 20)
    makers = {id(t): op for op in graph.ops for t in op.outputs}
    shared = 0
    for a in plan.placements:
        for b in plan.placements:
            if a is b or a.first > b.first or b.first > a.last:
                continue
            if a.offset + a.size <= b.offset or b.offset + b.size <= a.offset:
                continue
            op = makers[id(b.tensor)]
            assert a.tensor in op.inputs, f"{b.label} destroys {a.label}"
            in_place = op.kind in memory_planner.IN_PLACE and a.last == b.first
            assert not in_place or a.tensor.dtype.itemsize == b.tensor.dtype.itemsize
            view = op.kind in ("SLICE", "GATHER")
            # What is written over a view's source while the source lives on is the view itself.
            assert in_place or view, f"{op.kind} writes {b.label} over {a.label}"
            shared += 1
    assert shared > 5


@pytest.mark.parametrize("seed", range(20))
def test_greedy_never_lets_living_buffers_overlap(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    first = rng.integers(-1, 20, count)
    wanted = [(16 * int(rng.integers(1, 50)), int(f), int(f + rng.integers(0, 10))) for f in first]
    fixed = {0: 160} if seed % 2 else {}
    offsets = memory_planner.greedy(wanted, fixed)
    assert all(offsets[i] == at for i, at in fixed.items())
    for i in range(count):
        for j in range(i):
            (size, start, end), (other, begin, finish) = wanted[i], wanted[j]
            if start <= finish and begin <= end:
                assert offsets[i] + size <= offsets[j] or offsets[j] + other <= offsets[i]


def test_fixed_groups_must_cover_the_length():
    with pytest.raises(ValueError, match="do not sum to max_length 16"):
        pm.build(pm.random_folded(pm.ONE_LAYER), 16, groups=((8,), (9,)))


def test_tflm_joins_ten_parts_and_no_more():
    folded = pm.random_folded(pm.ONE_LAYER)
    with pytest.raises(ValueError, match="TFLM joins at most 10 parts"):
        pm.build(folded, 11, groups=((1,),) * 11)
    with pytest.raises(ValueError, match="TFLM joins at most 10 parts"):
        pm.build(folded, 11, groups=((1,) * 11,))


def test_length_must_fit_the_positions():
    with pytest.raises(ValueError, match=r"max_length 33 is not within 1\.\.32"):
        pm.graph.PortableGraph(pm.random_folded(pm.ONE_LAYER), {}, 33)


def test_schedule_is_described():
    text = graph_of("offline").schedule.describe()
    assert "query rows" in text
    assert "weighed by number of chunks: 1:" in text


def test_metadata_has_an_offset_for_every_tensor_of_the_file():
    built = pm.build(pm.random_folded(pm.ONE_LAYER), 12)
    graph = reader.read(pm.to_bytes(built))
    offsets = timeline.offline_offsets([graph])
    assert len(offsets) == len(graph.tensors)
    for tensor, offset in zip(graph.tensors, offsets, strict=True):
        assert (offset == -1) == (tensor.data is not None)
        assert offset % memory_planner.ALIGNMENT == 0 or offset == -1
