"""How the portable graph is cut into chunks of query rows, and the search for the best cut."""

import dataclasses
from collections.abc import Callable

import numpy as np

from converters.tflite.graph import Graph
from converters.tflm import memory_planner

MOST_PARTS = 10  # kMaxInputNum of TFLM's CONCATENATION
_FINALISTS = 6  # cuts that are placed for real
_TRIES = 100  # orders of placing that are tried for each finalist
_MOST_CHUNKS = 6
_MOST_IN_GROUP = 3
_SMALLEST_CHUNK = 8  # rows
_FIRST_STEP, _LAST_STEP = 16, 4  # rows that move from chunk to chunk

Groups = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How the graph is cut.

    Attributes:
        groups: Query rows of each attention chunk, grouped: the convolution branch runs once a
            group. They sum to max_length and hold for all layers but the last.
        head_bytes: Predicted arena head.
        tail_bytes: Predicted arena tail (64-bit host).
        considered: (chunk count, predicted arena) of every cut that was weighed.
    """

    groups: Groups
    head_bytes: int
    tail_bytes: int
    considered: tuple[tuple[int, int], ...]

    def describe(self) -> str:
        """Returns the choice as a line for people."""
        weighed = ", ".join(f"{count}: {size}" for count, size in self.considered)
        return (
            f"schedule: query rows {' | '.join('+'.join(map(str, g)) for g in self.groups)}"
            " (attention a chunk at a time, convolution once between bars); predicted arena "
            f"{self.head_bytes + self.tail_bytes} bytes (head {self.head_bytes}, tail "
            f"{self.tail_bytes}); weighed by number of chunks: {weighed}"
        )


def choose(
    build: Callable[[Groups], Graph],
    length: int,
    width: int,
    offline: bool,
    groups: Groups | None = None,
) -> tuple[Schedule, Graph, memory_planner.Plan]:
    """Searches by the bytes alive at the peak, then places the best few cuts for real.

    Args:
        build: Makes the graph of a cut.
        length: Tokens of the graph's input, S.
        width: Width of a row, D.
        offline: Whether the file will carry our own placement; else TFLM's planner decides.
        groups: The cut to take; None to search.

    Returns:
        The best cut, its graph, and where its tensors lie.
    """
    floors: dict[Groups, int] = {}

    def floor(candidate: Groups) -> int:
        if candidate not in floors:
            graph = build(candidate)
            alive = _plan(graph, offline, tries=0)
            floors[candidate] = alive.peak_bytes + memory_planner.tail_bytes(graph)
        return floors[candidate]

    if groups is None:
        for start in starts(length, width):
            improve(start, floor)
        finalists = sorted(floors, key=floors.__getitem__)[:_FINALISTS]
    else:
        finalists = [groups]
    placed = {}
    for candidate in finalists:
        graph = build(candidate)
        plan = _plan(graph, offline, _TRIES)
        placed[candidate] = (plan.head_bytes + memory_planner.tail_bytes(graph), graph, plan)
    best = min(placed, key=lambda c: placed[c][0])
    arena, graph, plan = placed[best]
    by_count: dict[int, int] = {}
    for candidate, size in floors.items():
        count = sum(map(len, candidate))
        by_count[count] = min(by_count.get(count, size), size)
    considered = tuple(sorted(by_count.items()))
    return Schedule(best, plan.head_bytes, arena - plan.head_bytes, considered), graph, plan


def _plan(graph: Graph, offline: bool, tries: int) -> memory_planner.Plan:
    return memory_planner.plan_offline(graph, tries) if offline else memory_planner.plan(graph)


def starts(length: int, width: int) -> list[Groups]:
    """Returns cuts to begin the search from.

    A chunk of m rows needs scores and probabilities, 2 m S bytes; every finished row stays as D
    bytes of output. Equal peaks make each chunk 1 - D / (2 S) of the one before.

    Args:
        length: S.
        width: D.
    """
    ratio = max(1 - width / (2 * length), 0.2)
    result: list[Groups] = [((length,),)]
    for count in range(2, _MOST_CHUNKS + 1):
        if length < _SMALLEST_CHUNK * count:
            break
        shares = np.array([ratio**i for i in range(count)])
        edges = np.round(np.cumsum(shares) / shares.sum() * length / 4) * 4
        edges = np.concatenate([[0], np.minimum(edges, length)])
        edges[-1] = length
        sizes = [int(n) for n in np.diff(edges)]
        if min(sizes) < 1:
            continue
        for members in range(1, min(count, _MOST_IN_GROUP) + 1):
            result.append(tuple(tuple(sizes[i : i + members]) for i in range(0, count, members)))
    return result


def improve(groups: Groups, floor: Callable[[Groups], int]) -> Groups:
    """Moves rows between chunks while `floor`, the bytes at the peak, shrinks."""
    best, step = groups, _FIRST_STEP
    while step >= _LAST_STEP:
        better = min(_moves(best, step), key=floor, default=best)
        if floor(better) < floor(best):
            best = better
        else:
            step //= 2
    return best


def _moves(groups: Groups, step: int) -> list[Groups]:
    """Returns every cut in which `step` rows went from one chunk to another."""
    sizes = [rows for group in groups for rows in group]
    result = []
    for i in range(len(sizes)):
        for j in range(len(sizes)):
            if i != j and sizes[i] > step:
                moved = list(sizes)
                moved[i] -= step
                moved[j] += step
                rest = iter(moved)
                result.append(tuple(tuple(next(rest) for _ in group) for group in groups))
    return result
