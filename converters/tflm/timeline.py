"""When each tensor of a `.tflite` lives, and where TFLM's planner puts it.

Follows TFLM's `micro_allocation_info.cc`: every operator is a step in time, subgraphs that IF,
WHILE and CALL_ONCE call are steps within their caller, tensors that the file's offline plan places
stay there, and the greedy planner fits the others around them.
"""

import dataclasses
import struct
from collections.abc import Mapping, Sequence

from converters.tflite import graph as graph_lib
from converters.tflm import memory_planner
from embbert_tf import errors

_MOST_STEPS = 50_000
_DEEPEST = 16
# Fields of the options that name the subgraphs an operator calls.
CALLS = {
    "IF": ("thenSubgraphIndex", "elseSubgraphIndex"),
    "WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
    "CALL_ONCE": ("initSubgraphIndex",),
}


class ArenaError(errors.EmbBertError):
    """The arena cannot be followed; the message says why."""


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
class Wanted:
    """Bytes of the arena's head that a tensor, or one scratch buffer of an operator, wants.

    Attributes:
        tensor: The tensor; None for scratch.
        where: (subgraph, operator) of the scratch; (-1, -1) for a tensor.
        size: Bytes, rounded up to TFLM's alignment.
        first: Step that makes it.
        last: Last step that reads it; -1 where nothing does.
    """

    tensor: graph_lib.Tensor | None
    where: tuple[int, int]
    size: int
    first: int
    last: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """The head of the arena.

    Attributes:
        timeline: The steps.
        found: What lies in it, in TFLM's order.
        places: First byte of each.
        fixed: Indices of those that the file's offline plan places.
        variables: Variable tensors, which lie in the tail instead.
        head_bytes: Highest byte in use.
    """

    timeline: "Timeline"
    found: tuple[Wanted, ...]
    places: tuple[int, ...]
    fixed: frozenset[int]
    variables: tuple[graph_lib.Tensor, ...]

    @property
    def head_bytes(self) -> int:
        """Highest byte in use."""
        ends = (w.size + at for w, at in zip(self.found, self.places, strict=True))
        return max(ends, default=0)


def printable(text: str, limit: int = 60) -> str:
    """Returns a name from a file so that it can go to a terminal: no control codes, not endless."""
    text = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return text if len(text) <= limit else "…" + text[1 - limit :]


def sentence(text: str, limit: int = 600) -> str:
    """Returns words with parts of a file in them as one line that can go to a terminal."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text[: 4 * limit].split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def operator_name(op: graph_lib.Op) -> str:
    """Returns the operator's name, a custom operator's own one."""
    return printable(op.custom_code) or "CUSTOM" if op.kind == "CUSTOM" else op.kind


class Timeline:
    """Runs through the operators as TFLM's planner does and notes when each tensor lives.

    Attributes:
        steps: The moments.
        first, last: Step of each tensor's making and last use, by its `id`.
        maker: Operator that makes a tensor, by its `id`.
        scopes: First and last step of the operator at (subgraph, operator).
    """

    def __init__(self, graphs: Sequence[graph_lib.Graph]) -> None:
        self.graphs = graphs
        self.steps: list[Step] = []
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.maker: dict[int, graph_lib.Op] = {}
        self.scopes: dict[tuple[int, int], tuple[int, int]] = {}
        self._visit(0, 0)

    def _step(self, op: graph_lib.Op | None, subgraph: int, index: int) -> int:
        if len(self.steps) >= _MOST_STEPS:
            raise ArenaError(f"more than {_MOST_STEPS} operators to run")
        self.steps.append(Step(op, subgraph, index))
        return len(self.steps) - 1

    def _visit(self, number: int, depth: int) -> None:
        if depth > _DEEPEST:
            raise ArenaError("subgraphs call each other without end")
        graph = self.graphs[number]
        now = self._step(None, number, -1)
        for tensor in graph.inputs:
            self.first.setdefault(id(tensor), now)
            self.last[id(tensor)] = now
        for index, op in enumerate(graph.ops):
            start = self._step(op, number, index)
            for tensor in op.outputs:
                self.first.setdefault(id(tensor), start)
                self.maker.setdefault(id(tensor), op)
            for field in CALLS.get(op.kind, ()):
                called = getattr(op.options, field, -1)
                if not 0 <= called < len(self.graphs):
                    raise ArenaError(f"operator {index} ({op.kind}) calls subgraph {called}")
                self._visit(called, depth + 1)
            now = len(self.steps) - 1
            self.scopes.setdefault((number, index), (start, now))
            for used in [*op.inputs, *op.outputs]:
                if used is not None:
                    self.last[id(used)] = now
        now = len(self.steps) - 1
        for tensor in graph.outputs:
            self.first.setdefault(id(tensor), now)
            self.last[id(tensor)] = now


def offline_offsets(graphs: Sequence[graph_lib.Graph]) -> list[int] | None:
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


def _tensors(
    graphs: Sequence[graph_lib.Graph], timeline: Timeline
) -> tuple[list[Wanted], dict[int, int], list[graph_lib.Tensor]]:
    """What the tensors want, where the offline plan puts them, and the variables."""
    offsets = offline_offsets(graphs)
    found: list[Wanted] = []
    fixed: dict[int, int] = {}
    variables = []
    number = -1
    # VAR_HANDLE answers with a number that lies in its own data.
    handles = {id(t) for g in graphs for op in g.ops if op.kind == "VAR_HANDLE" for t in op.outputs}
    for graph in graphs:
        for tensor in graph.tensors:
            number += 1
            planned = -1 if offsets is None else offsets[number]
            if tensor.is_variable and planned < 0:
                variables.append(tensor)
                continue
            if tensor.data is not None or not tensor.nbytes or id(tensor) in handles:
                continue
            last = timeline.last.get(id(tensor), -1)
            first = timeline.first.get(id(tensor), min(last, 0))
            if planned >= 0:
                fixed[len(found)] = planned
            size = memory_planner.align(tensor.nbytes)
            found.append(Wanted(tensor, (-1, -1), size, first, last))
    return found, fixed, variables


def lay_out(
    graphs: Sequence[graph_lib.Graph],
    scratch: Mapping[tuple[int, int], Sequence[int]] | None = None,
) -> Layout:
    """Places all tensors and scratch buffers.

    Args:
        graphs: All subgraphs of a file.
        scratch: Bytes of each scratch buffer by (subgraph, operator), in that order.

    Raises:
        ArenaError: The graph or its offline plan cannot be followed.
    """
    timeline = Timeline(graphs)
    found, fixed, variables = _tensors(graphs, timeline)
    for where, sizes in (scratch or {}).items():
        if where in timeline.scopes:  # else nothing ever calls its subgraph
            scope = timeline.scopes[where]
            found += [Wanted(None, where, memory_planner.align(size), *scope) for size in sizes]
    places = memory_planner.greedy([(w.size, w.first, w.last) for w in found], fixed)
    return Layout(timeline, tuple(found), tuple(places), frozenset(fixed), tuple(variables))
