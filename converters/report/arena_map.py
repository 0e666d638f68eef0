"""Which tensor lies where in TFLM's arena, and when, for any `.tflite`.

Follows TFLM's `micro_allocation_info.cc`: every operator is a step in time, subgraphs that IF,
WHILE and CALL_ONCE call are steps within their caller, tensors that the file's offline plan places
stay there, and the greedy planner fits the others around them.
"""

import dataclasses
import struct

import numpy as np

from converters.tflite import graph as graph_lib
from converters.tflite import reader
from converters.tflm import memory_planner
from embbert_tf import errors

_MOST_STEPS = 50_000
_MOST_BLOCKS = 20_000
_DEEPEST = 16
# Fields of the options that name the subgraphs an operator calls.
_CALLS = {
    "IF": ("thenSubgraphIndex", "elseSubgraphIndex"),
    "WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
    "CALL_ONCE": ("initSubgraphIndex",),
}


class ArenaError(errors.EmbBertError):
    """No map can be drawn; the message says why."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A moment: one operator, or the arrival of a subgraph's inputs (`op` is None)."""

    op: graph_lib.Op | None
    subgraph: int
    index: int

    @property
    def label(self) -> str:
        """The operator for people, as "12 ADD", with the subgraph where it is not the first."""
        name = "inputs" if self.op is None else f"{self.index} {operator_name(self.op)}"
        return name if not self.subgraph else f"{name} of subgraph {self.subgraph}"


@dataclasses.dataclass(frozen=True)
class Block:
    """Bytes of the arena's head that one tensor, or one operator's scratch, has for a while.

    Attributes:
        label: Name for people.
        role: "input", "output", "activation" or "scratch".
        offset: First byte.
        size: Bytes, rounded up to TFLM's alignment.
        first: Step that makes it.
        last: Last step that reads it.
        fixed: Whether the file's offline plan says so.
    """

    label: str
    role: str
    offset: int
    size: int
    first: int
    last: int
    fixed: bool


@dataclasses.dataclass(frozen=True)
class ArenaMap:
    """The arena's head over time.

    Attributes:
        steps: The moments.
        blocks: What lies where and when.
        head_bytes: Highest byte in use.
        in_use: (steps,) bytes that hold something at each step, shared bytes counted once.
        peak: Step with the most bytes in use.
    """

    steps: tuple[Step, ...]
    blocks: tuple[Block, ...]
    head_bytes: int
    in_use: np.ndarray
    peak: int

    def alive(self, step: int) -> list[Block]:
        """Returns the blocks that hold something at a step, largest first."""
        return sorted(
            (b for b in self.blocks if b.first <= step <= b.last), key=lambda b: (-b.size, b.offset)
        )


def printable(text: str, limit: int = 60) -> str:
    """Returns a name from a file so that it can go to a terminal: no control codes, not endless."""
    text = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return text if len(text) <= limit else "…" + text[1 - limit :]


def operator_name(op: graph_lib.Op) -> str:
    """Returns the operator's name, a custom operator's own one."""
    return printable(op.custom_code) or "CUSTOM" if op.kind == "CUSTOM" else op.kind


def read_all(data: bytes) -> list[graph_lib.Graph]:
    """Reads all subgraphs of a `.tflite`.

    Raises:
        FlatbufferError: The file is damaged.
    """
    first = reader.read(data)
    if first.other_subgraphs > 1000:
        raise graph_lib.FlatbufferError(f"damaged .tflite: {first.other_subgraphs} subgraphs")
    return [first, *(reader.read(data, 1 + i) for i in range(first.other_subgraphs))]


class _Timeline:
    """Runs through the operators as TFLM's planner does and notes when each tensor lives."""

    def __init__(self, graphs: list[graph_lib.Graph]) -> None:
        self.graphs = graphs
        self.steps: list[Step] = []
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.maker: dict[int, graph_lib.Op] = {}
        self.scopes: dict[tuple[int, int], tuple[int, int]] = {}  # operator -> its steps
        self.visit(0, 0)

    def step(self, op: graph_lib.Op | None, subgraph: int, index: int) -> int:
        if len(self.steps) >= _MOST_STEPS:
            raise ArenaError(f"more than {_MOST_STEPS} operators to run")
        self.steps.append(Step(op, subgraph, index))
        return len(self.steps) - 1

    def visit(self, number: int, depth: int) -> None:
        if depth > _DEEPEST:
            raise ArenaError("subgraphs call each other without end")
        graph = self.graphs[number]
        now = self.step(None, number, -1)
        for tensor in graph.inputs:
            self.first.setdefault(id(tensor), now)
            self.last[id(tensor)] = now
        for index, op in enumerate(graph.ops):
            start = self.step(op, number, index)
            for tensor in op.outputs:
                self.first.setdefault(id(tensor), start)
                self.maker.setdefault(id(tensor), op)
            for field in _CALLS.get(op.kind, ()):
                called = getattr(op.options, field, -1)
                if not 0 <= called < len(self.graphs):
                    raise ArenaError(f"operator {index} ({op.kind}) calls subgraph {called}")
                self.visit(called, depth + 1)
            now = len(self.steps) - 1
            self.scopes.setdefault((number, index), (start, now))
            for used in [*op.inputs, *op.outputs]:
                if used is not None:
                    self.last[id(used)] = now
        now = len(self.steps) - 1
        for tensor in graph.outputs:
            self.first.setdefault(id(tensor), now)
            self.last[id(tensor)] = now


def offline_offsets(graphs: list[graph_lib.Graph]) -> list[int] | None:
    """Returns the offline plan's offset of every tensor of every subgraph; None without a plan.

    Raises:
        ArenaError: The plan does not fit the file; TFLM refuses such a file too.
    """
    raw = graphs[0].metadata.get(memory_planner.OFFLINE_METADATA)
    if raw is None:
        return None
    count = sum(len(graph.tensors) for graph in graphs)
    planned = struct.unpack_from("<i", raw, 8)[0] if len(raw) >= 12 else -1
    if planned != count or len(raw) < 4 * (3 + count):
        raise ArenaError(f"offline plan for {planned} tensors, but the file has {count}")
    offsets = list(struct.unpack_from(f"<{count}i", raw, 12))
    if min(offsets, default=0) < -1:
        raise ArenaError(f"offline plan with the offset {min(offsets)}")
    return offsets


def build(
    graphs: list[graph_lib.Graph], scratch: dict[tuple[int, int], int] | None = None
) -> ArenaMap:
    """Maps the arena's head of a file.

    Args:
        graphs: From `read_all`.
        scratch: Bytes of scratch by (subgraph, operator).

    Raises:
        ArenaError: The graph or its offline plan cannot be followed.
    """
    timeline = _Timeline(graphs)
    offsets = offline_offsets(graphs)
    outputs = {id(t) for t in graphs[0].outputs}
    inputs = {id(t) for t in graphs[0].inputs}
    found: list[tuple[str, str, int, int, int]] = []  # label, role, size, first, last
    fixed: dict[int, int] = {}
    number = -1
    for graph in graphs:
        for tensor in graph.tensors:
            number += 1
            planned = -1 if offsets is None else offsets[number]
            if tensor.data is not None or not tensor.nbytes:
                continue
            if tensor.is_variable and planned < 0:
                continue
            key = id(tensor)
            label = printable(tensor.name)
            if label.startswith("#") and key in timeline.maker:
                label = f"{label} {operator_name(timeline.maker[key])}"
            role = "input" if key in inputs else "output" if key in outputs else "activation"
            if planned >= 0:
                fixed[len(found)] = planned
            last = timeline.last.get(key, -1)  # -1: nothing uses it, and it is never alive
            first = timeline.first.get(key, min(last, 0))
            found.append((label, role, memory_planner.align(tensor.nbytes), first, last))
    for where, size in (scratch or {}).items():
        first, last = timeline.scopes[where]
        label = f"scratch of {timeline.steps[first].label}"
        found.append((label, "scratch", memory_planner.align(size), first, last))
    if len(found) > _MOST_BLOCKS:
        raise ArenaError(f"{len(found)} activations are too many to draw")
    places = memory_planner.greedy([item[2:] for item in found], fixed)
    blocks = tuple(
        Block(label, role, offset, size, first, last, index in fixed)
        for index, ((label, role, size, first, last), offset) in enumerate(
            zip(found, places, strict=True)
        )
    )
    head = max((b.offset + b.size for b in blocks), default=0)
    in_use = _bytes_in_use(blocks, len(timeline.steps))
    # Of equals, an operator rather than the arrival of inputs.
    steps = timeline.steps
    peak = max(range(len(steps)), key=lambda i: (in_use[i], steps[i].op is not None))
    return ArenaMap(tuple(timeline.steps), blocks, head, in_use, peak)


def _bytes_in_use(blocks: tuple[Block, ...], steps: int) -> np.ndarray:
    """Counts each step's bytes that at least one block covers."""
    # object: a damaged file may ask for more than 64 bits can count.
    result = np.zeros(steps, object)
    starts: list[list[Block]] = [[] for _ in range(steps)]
    for block in blocks:
        if block.first >= 0:
            starts[block.first].append(block)
    alive: list[Block] = []
    for step in range(steps):
        alive = [b for b in alive if b.last >= step] + starts[step]
        end = 0
        for block in sorted(alive, key=lambda b: b.offset):
            top = block.offset + block.size
            if top > end:
                result[step] += top - max(end, block.offset)
                end = top
    return result
