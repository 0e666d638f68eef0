"""Which tensor lies where in the head of TFLM's arena, and when, for any `.tflite`."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from converters.tflite import graph as graph_lib
from converters.tflm import timeline as timeline_lib

_MOST_BLOCKS = 20_000


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

    steps: tuple[timeline_lib.Step, ...]
    blocks: tuple[Block, ...]
    head_bytes: int
    in_use: np.ndarray
    peak: int

    def alive(self, step: int) -> list[Block]:
        """Returns the blocks that hold something at a step, largest first."""
        return sorted(
            (b for b in self.blocks if b.first <= step <= b.last), key=lambda b: (-b.size, b.offset)
        )


def build(
    graphs: list[graph_lib.Graph],
    scratch: Mapping[tuple[int, int], Sequence[int]] | None = None,
) -> ArenaMap:
    """Maps the arena's head of a file.

    Args:
        graphs: All subgraphs of the file.
        scratch: Bytes of each scratch buffer by (subgraph, operator).

    Raises:
        ArenaError: The graph or its offline plan cannot be followed.
    """
    plan = timeline_lib.lay_out(graphs, scratch)
    if len(plan.found) > _MOST_BLOCKS:
        raise timeline_lib.ArenaError(f"{len(plan.found)} activations are too many to draw")
    steps = plan.timeline.steps
    outputs = {id(t) for t in graphs[0].outputs}
    inputs = {id(t) for t in graphs[0].inputs}
    blocks = []
    for index, (wanted, offset) in enumerate(zip(plan.found, plan.places, strict=True)):
        if wanted.tensor is None:
            label, role = f"scratch of {steps[wanted.first].label}", "scratch"
        else:
            key = id(wanted.tensor)
            label = timeline_lib.printable(wanted.tensor.name)
            if label.startswith("#") and key in plan.timeline.maker:
                label += f" {timeline_lib.operator_name(plan.timeline.maker[key])}"
            role = "input" if key in inputs else "output" if key in outputs else "activation"
        blocks.append(
            Block(label, role, offset, wanted.size, wanted.first, wanted.last, index in plan.fixed)
        )
    in_use = _bytes_in_use(blocks, len(steps))
    # Of equals, an operator rather than the arrival of inputs.
    peak = max(range(len(steps)), key=lambda i: (in_use[i], steps[i].op is not None))
    return ArenaMap(tuple(steps), tuple(blocks), plan.head_bytes, in_use, peak)


def _bytes_in_use(blocks: Sequence[Block], steps: int) -> np.ndarray:
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
