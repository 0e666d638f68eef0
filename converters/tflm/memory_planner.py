"""A model of where TFLM's memory planner puts every tensor, and of what it keeps for ever.

TFLM places all activations with its greedy planner, `memory_planner/greedy_memory_planner.cc`:
largest first, each into the first gap that is free for its whole life. No buffer is reused in
place, and an operator's inputs and outputs are alive together. `plan` repeats that, so that a graph
can be laid out for the planner before TFLM ever sees it; tests hold it against recorded figures.
"""

import bisect
import dataclasses
import random
import struct

import numpy as np

from converters.tflite import graph as graph_lib

ALIGNMENT = 16  # MicroArenaBufferAlignment()


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where one activation lies in the arena.

    Attributes:
        tensor: The tensor; None for an operator's scratch buffer.
        offset: First byte in the arena's head.
        size: Bytes, rounded up to the planner's alignment.
        first: Index of the operator that makes it; -1 for a graph input.
        last: Index of the last operator that reads it; the number of operators for an output.
        label: Name for people.
    """

    tensor: graph_lib.Tensor | None
    offset: int
    size: int
    first: int
    last: int
    label: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """The planner's result.

    Attributes:
        placements: One an activation.
        head_bytes: Arena head, the bytes that activations take.
        peak_op: Index of the operator during which most bytes are alive.
        peak_bytes: Those bytes: no planner can do with less.
    """

    placements: tuple[Placement, ...]
    head_bytes: int
    peak_op: int
    peak_bytes: int


def align(size: int) -> int:
    """Rounds a size up to what the planner hands out."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def lifetimes(graph: graph_lib.Graph) -> list[tuple[graph_lib.Tensor, int, int]]:
    """Returns (tensor, first, last) of every activation, in the file's tensor order."""
    first: dict[int, int] = {id(t): -1 for t in graph.inputs}
    last: dict[int, int] = {id(t): -1 for t in graph.inputs}
    for index, op in enumerate(graph.ops):
        for tensor in [*op.outputs, *op.intermediates]:
            first.setdefault(id(tensor), index)
            last[id(tensor)] = index
        for tensor in op.inputs:
            if tensor is not None:
                last[id(tensor)] = index
    for tensor in graph.outputs:
        last[id(tensor)] = len(graph.ops)
    return [
        (t, first[id(t)], last[id(t)])
        for t in (graph.tensors or graph.ordered_tensors())
        if t.data is None and not t.is_variable and id(t) in first
    ]


def greedy(wanted: list[tuple[int, int, int]], fixed: dict[int, int] | None = None) -> list[int]:
    """Places buffers as TFLM's greedy planner does.

    Args:
        wanted: (size, first use, last use) of each buffer, in TFLM's order: tensors as the file has
          them, then scratch.
        fixed: Offsets that an offline plan gives to some, by index.

    Returns:
        Offset of each buffer.
    """
    fixed = fixed or {}
    # The planner fills its list from the back and sorts it stably: of equals the later comes first.
    free = [index for index in reversed(range(len(wanted))) if index not in fixed]
    offsets = [0] * len(wanted)
    placed: list[int] = []  # kept sorted by offset
    heights: list[int] = []
    for index in [*sorted(fixed), *sorted(free, key=lambda i: -wanted[i][0])]:
        size, first, last = wanted[index]
        offset = fixed.get(index, 0)
        for other in placed if index not in fixed else ():
            other_size, other_first, other_last = wanted[other]
            if other_first > last or first > other_last:
                continue
            if offsets[other] - offset >= size:
                break
            offset = max(offset, offsets[other] + other_size)
        offsets[index] = offset
        at = bisect.bisect_right(heights, offset)
        placed.insert(at, index)
        heights.insert(at, offset)
    return offsets


def plan(graph: graph_lib.Graph, scratch: dict[int, int] | None = None) -> Plan:
    """Places every activation as TFLM's greedy planner does.

    Args:
        graph: The graph.
        scratch: Bytes of scratch that the operator of an index asks for (optimized kernels).
    """
    wanted = [
        (tensor, align(tensor.nbytes), first, last, tensor.name)
        for tensor, first, last in lifetimes(graph)
        if tensor.nbytes
    ]
    for index, size in (scratch or {}).items():
        wanted.append((None, align(size), index, index, f"scratch of operator {index}"))
    offsets = greedy([item[1:4] for item in wanted])
    placed = [
        Placement(tensor, offset, size, first, last, label)
        for (tensor, size, first, last, label), offset in zip(wanted, offsets, strict=True)
    ]
    placed.sort(key=lambda p: p.offset)
    head = max((p.offset + p.size for p in placed), default=0)
    alive = [0] * (len(graph.ops) + 1)
    for p in placed:
        for index in range(max(p.first, 0), min(p.last, len(graph.ops)) + 1):
            alive[index] += p.size
    peak = max(range(len(alive)), key=alive.__getitem__)
    return Plan(tuple(placed), head, min(peak, max(len(graph.ops) - 1, 0)), alive[peak])


# Bytes that the interpreter keeps for each thing on a 64-bit host, measured as the tail's growth
# for one more operator of a kind (TFLM of 2026-10): options and OpData, with their rounding.
_BASE = 500
_EVAL_TENSOR = 24
_NODE = 64
_OP_DATA = {
    "ADD": 72,
    "CONCATENATION": 88,
    "DEPTHWISE_CONV_2D": 108,
    "FULLY_CONNECTED": 112,
    "GATHER": 28,
    "LOGISTIC": 16,
    "MINIMUM": 0,
    "MUL": 52,
    "PAD": 64,
    "QUANTIZE": 32,
    "RESHAPE": 0,
    "RSQRT": 32,
    "SLICE": 0,
    "SOFTMAX": 84,
    "SUB": 72,
    "TRANSPOSE": 0,
}
# Each int16 SOFTMAX fills two tables of 513 int16 of its own.
_SOFTMAX_TABLES = 2 * 2 * 513


def tail_bytes(graph: graph_lib.Graph) -> int:
    """Estimates the persistent part of the arena (tail) on a 64-bit host."""
    total = _BASE + _EVAL_TENSOR * len(graph.ordered_tensors())
    for op in graph.ops:
        total += _NODE + _OP_DATA.get(op.kind, 64)
        if op.kind == "SOFTMAX" and op.inputs[0].dtype == np.int16:
            total += _SOFTMAX_TABLES
        if op.kind == "DEPTHWISE_CONV_2D" or (
            op.kind in ("FULLY_CONNECTED", "CONV_2D") and hasattr(op.inputs[1].scale, "__len__")
        ):
            total += 2 * 4 * op.outputs[0].shape[-1]  # a multiplier and a shift a channel
    return total


# -- offline plan ---------------------------------------------------------------------------------

# Operators whose kernels read an element for the last time before they write it. SOFTMAX of int8
# and of int16 writes a row in ascending order, in a pass that reads each element just before.
IN_PLACE = ("ADD", "MUL", "SUB", "MINIMUM", "QUANTIZE", "SOFTMAX")

OFFLINE_METADATA = "OfflineMemoryAllocation"


@dataclasses.dataclass
class _Region:
    """Bytes that several tensors share: a buffer, its views, and what is written over it."""

    size: int
    first: int
    last: int
    members: list[tuple[graph_lib.Tensor, int]]  # tensor, offset within the region
    offset: int = 0


def _contiguous_rows(op: graph_lib.Op) -> int | None:
    """Row of the input at which the output's rows start, if they are a run of it; else None."""
    source, out = op.inputs[0], op.outputs[0]
    if op.kind == "RESHAPE" and source.data is None:
        return 0
    if op.kind == "SLICE" and len(source.shape) == 2:
        begin, size = op.inputs[1].data, op.inputs[2].data
        if begin is not None and size is not None and out.shape[1] == source.shape[1]:
            return int(begin[0])
    if op.kind == "GATHER" and len(source.shape) == 2 and getattr(op.options, "axis", 1) == 0:
        rows = op.inputs[1].data
        if rows is not None and source.data is None:
            flat = rows.reshape(-1)
            if all(flat[i] + 1 == flat[i + 1] for i in range(len(flat) - 1)):
                return int(flat[0])
    return None


def _regions(graph: graph_lib.Graph) -> list[_Region]:
    life = {id(t): (t, first, last) for t, first, last in lifetimes(graph)}
    home: dict[int, tuple[_Region, int]] = {}
    fixed = {id(t) for t in [*graph.inputs, *graph.outputs]}

    def settle(tensor, region, at):
        _, first, last = life[id(tensor)]
        region.first, region.last = min(region.first, first), max(region.last, last)
        region.members.append((tensor, at))
        home[id(tensor)] = (region, at)

    regions = []
    for tensor in graph.inputs:
        region = _Region(align(tensor.nbytes), *life[id(tensor)][1:], [])
        settle(tensor, region, 0)
        regions.append(region)
    for index, op in enumerate(graph.ops):
        for out in op.outputs:
            row = _contiguous_rows(op)
            if row is not None and id(out) not in fixed:
                # A run of the input's rows: the operator copies it onto itself.
                region, at = home[id(op.inputs[0])]
                shift = at + row * op.inputs[0].nbytes // op.inputs[0].shape[0]
                if shift % ALIGNMENT == 0:
                    settle(out, region, shift)
                    continue
            if op.kind in IN_PLACE and id(out) not in fixed and out.dtype is not None:
                # Element i is read before element i is written and never after: the result may
                # overwrite an operand of its own size that nothing reads later.
                for source in op.inputs:
                    if (
                        source.data is None
                        and source.nbytes == out.nbytes
                        and life[id(source)][2] == index
                        and id(source) not in fixed
                        and home[id(source)][0].last == index
                    ):
                        region, at = home[id(source)]
                        settle(out, region, at)
                        break
                else:
                    source = None
                if source is not None:
                    continue
            _, first, last = life[id(out)]
            region = _Region(align(out.nbytes), first, last, [])
            settle(out, region, 0)
            regions.append(region)
    return regions


def _pack(regions: list[_Region], order: list[int]) -> int:
    placed: list[_Region] = []
    head = 0
    for index in order:
        region = regions[index]
        offset = 0
        for other in placed:  # sorted by offset
            if other.first > region.last or region.first > other.last:
                continue
            if other.offset - offset >= region.size:
                break
            offset = max(offset, other.offset + other.size)
        region.offset = offset
        head = max(head, offset + region.size)
        at = next((i for i, p in enumerate(placed) if p.offset > offset), len(placed))
        placed.insert(at, region)
    return head


def plan_offline(graph: graph_lib.Graph, tries: int = 2, seed: int = 0) -> Plan:
    """Places every activation better than TFLM's planner would.

    Three things that the planner does not do: a run of rows of a tensor lies where it is, the
    result of an element-wise operator overwrites an operand that dies there, and several orders of
    placing are tried. `offline_metadata` hands the result to TFLM in the file.

    Args:
        graph: The graph.
        tries: Orders to try: by size, by size times lifetime, then shuffles of both; 0 to learn the
          peak alone, with nothing placed.
        seed: Of the shuffles.
    """
    regions = _regions(graph)
    count = range(len(regions))
    # What an operator adds to the bytes alive before it, and what the one before it leaves.
    changes = [0] * (len(graph.ops) + 2)
    for region in regions:
        changes[max(region.first, 0)] += region.size
        changes[region.last + 1] -= region.size
    floor = alive = 0
    for index in range(len(graph.ops)):
        alive += changes[index]
        if alive >= floor:
            floor, peak = alive, index
    by_size = sorted(count, key=lambda i: (-regions[i].size, regions[i].first))
    by_area = sorted(
        count, key=lambda i: -regions[i].size * (regions[i].last - regions[i].first + 1)
    )
    rng = random.Random(seed)
    best_head, best_order = None, None
    if not tries:
        return Plan((), floor, peak, floor)
    for attempt in range(tries):
        if attempt < 2:
            order = (by_size, by_area)[attempt]
        else:
            base = (by_size, by_area)[attempt % 2]
            rank = {i: place + rng.gauss(0, 1 + attempt % 7) for place, i in enumerate(base)}
            order = sorted(count, key=rank.__getitem__)
        head = _pack(regions, order)
        if best_head is None or head < best_head:
            best_head, best_order = head, order
        if best_head <= floor:
            break
    head = _pack(regions, best_order)
    life = {id(t): (first, last) for t, first, last in lifetimes(graph)}
    placements = [
        Placement(t, r.offset + at, align(t.nbytes), *life[id(t)], t.name)
        for r in regions
        for t, at in r.members
    ]
    return Plan(tuple(placements), head, peak, floor)


def offline_metadata(graph: graph_lib.Graph, offline: Plan) -> bytes:
    """Returns the value of metadata "OfflineMemoryAllocation" for `graph` as it is written.

    TFLM reads int32: version, subgraph, number of tensors, then an offset a tensor (-1: TFLM's own
    choice); see `micro/docs/memory_management.md`.
    """
    offsets = {id(p.tensor): p.offset for p in offline.placements}
    tensors = graph.ordered_tensors()
    values = [1, 0, len(tensors), *(offsets.get(id(t), -1) for t in tensors)]
    return struct.pack(f"<{len(values)}i", *values)
