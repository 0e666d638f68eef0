"""The arena that TFLM needs on a 32-bit core, from the file alone.

Repeats what `MicroInterpreter::AllocateTensors` does with the arena, in its order: what is kept for
good grows down from the arena's end (the tail), what is of passing use and the activations up from
its beginning (the head). An arena suffices if the two never meet; `Prediction.bytes` is the
smallest multiple of 16 that does.
"""

import dataclasses

from converters.tflite import graph as graph_lib
from converters.tflm import (
    custom_memory,
    kernel_memory,
    memory_planner,
    operators,
    target,
    timeline,
)

# Structures of TFLM on 32-bit cores: size, all of them at a multiple of 4.
_ALLOCATOR, _PLANNER, _MICRO_ALLOCATOR = 36, 44, 36
_DATA_ALLOCATOR, _SUBGRAPH, _EVAL_TENSOR, _NODE = 8, 8, 12, 32
_TENSOR, _QUANTIZATION = 32, 12
_SCRATCH_REQUEST, _SCRATCH_HANDLE = 12, 4
_LIFETIME, _PLANNED_BUFFER = 24, 40
_VARIABLES, _VARIABLE = 12, 20
_MOST_SCRATCH_PER_OPERATOR = 12
_ALIGNMENT = memory_planner.ALIGNMENT


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a target needs.

    Attributes:
        target: The target.
        bytes: The smallest arena, aligned to 16 bytes, with which the model loads and runs.
        head_bytes: Activations and scratch, as the planner lays them out.
        tail_bytes: What is kept for good.
        loading_bytes: What loading needs for a while; `bytes` may be more than head and tail
            because of it.
        unknown: Operators whose own memory comes on top, as nothing is known of it.
        refused: Why these kernels refuse the file, though others take it; empty where they do not.
        scratch: Bytes of each scratch buffer by (subgraph, operator).
    """

    target: target.Target
    bytes: int
    head_bytes: int
    tail_bytes: int
    loading_bytes: int
    unknown: tuple[str, ...]
    refused: str
    scratch: dict[tuple[int, int], list[int]]


class _Arena:
    """Counts from both ends, and the most that they reach together."""

    def __init__(self) -> None:
        self.head = self.temporary = self.tail = self.most = 0

    def _note(self) -> None:
        self.most = max(self.most, max(self.head, self.temporary) + self.tail)

    def keep(self, size: int, alignment: int = 4) -> None:
        """Bytes for good."""
        self.tail = -(-(self.tail + size) // alignment) * alignment
        self._note()

    def reserve(self, size: int) -> None:
        """Resizes what lies at the beginning; ends everything temporary."""
        self.head = self.temporary = size
        self._note()

    def borrow(self, size: int, alignment: int = 4) -> None:
        """Bytes until the next `reserve`."""
        self.temporary = -(-self.temporary // alignment) * alignment + size
        self._note()

    def plan(self, buffers: int) -> None:
        """The planner's own notes, which take what lies free in whole blocks of the alignment."""
        start = memory_planner.align(self.temporary)
        self.most = max(
            self.most, start + _PLANNED_BUFFER * buffers + memory_planner.align(self.tail)
        )


def _tensor_parts(tensor: graph_lib.Tensor) -> list[int]:
    """Structures that describe a tensor in full: itself, its quantization, its zero points."""
    if tensor.scale is None:
        return [_TENSOR]
    channels = len(tensor.scale) if hasattr(tensor.scale, "__len__") else 1
    return [_TENSOR, _QUANTIZATION, 4 + 4 * channels]


def requests(
    graphs: list[graph_lib.Graph], chip: target.Target
) -> dict[tuple[int, int], kernel_memory.Request]:
    """Returns what each operator, by (subgraph, operator), asks for on a target."""
    result = {}
    for number, graph in enumerate(graphs):
        for index, op in enumerate(graph.ops):
            try:
                of_kind = (
                    custom_memory.of_custom if op.kind == "CUSTOM" else kernel_memory.of_builtin
                )
                result[number, index] = of_kind(op, chip)
                if op.kind != "CUSTOM" and op.kind not in operators.BUILTIN:
                    result[number, index].known = False
            except (AttributeError, IndexError, AssertionError, TypeError, KeyError, ValueError):
                # Not as its kernel wants it; TFLM will refuse it, and says why.
                result[number, index] = kernel_memory.Request(known=False)
    return result


@dataclasses.dataclass(frozen=True)
class Variables:
    """The resource variables of a file.

    Attributes:
        names: (container, name) of each, in the order in which TFLM numbers them.
        bytes_of: Bytes that the operator at (subgraph, operator) asks for: the first that assigns
            to a variable.
    """

    names: tuple[tuple[str, str], ...]
    bytes_of: dict[tuple[int, int], int]


def resource_variables(graphs: list[graph_lib.Graph]) -> Variables:
    """Finds the resource variables of a file."""
    names: dict[tuple[str, str], None] = {}
    handles: dict[int, tuple[str, str]] = {}
    bytes_of = {}
    assigned = set()
    for number, graph in enumerate(graphs):
        for index, op in enumerate(graph.ops):
            if op.kind == "VAR_HANDLE":
                container, name = (
                    text.decode("utf-8", "replace") if isinstance(text, bytes) else text or ""
                    for text in (op.options.container, op.options.sharedName)
                )
                handles[id(op.outputs[0])] = container, name
                names.setdefault((container, name))
            elif op.kind == "ASSIGN_VARIABLE":
                variable, value = handles.get(id(op.inputs[0])), op.inputs[1]
                if variable and variable not in assigned and value is not None:
                    assigned.add(variable)
                    bytes_of[number, index] = value.nbytes
    return Variables(tuple(names), bytes_of)


def _start(arena: _Arena, graphs: list[graph_lib.Graph], variables: Variables) -> None:
    """Interpreter, resource variables, tables of tensors and operators."""
    for size in (_ALLOCATOR, _PLANNER, _MICRO_ALLOCATOR):
        arena.keep(size)
    if variables.names:
        arena.keep(_VARIABLES, _ALIGNMENT)
        arena.keep(_VARIABLE * len(variables.names), _ALIGNMENT)
    arena.keep(_DATA_ALLOCATOR)
    arena.reserve(_SCRATCH_REQUEST * _MOST_SCRATCH_PER_OPERATOR)
    arena.keep(_SUBGRAPH * len(graphs))
    for graph in graphs:
        arena.keep(_EVAL_TENSOR * len(graph.tensors))
    for graph in graphs:
        arena.keep(_NODE * len(graph.ops))


def _prepare(
    arena: _Arena,
    variables: Variables,
    asked: dict[tuple[int, int], kernel_memory.Request],
) -> int:
    """Options, then each operator's Init, then each one's Prepare; returns the scratch buffers."""
    for request in asked.values():
        if request.options:
            arena.keep(*request.options)
    for request in asked.values():
        for size in request.at_init:
            arena.keep(size, _ALIGNMENT)
    scratch = 0
    for where, request in asked.items():
        for tensor in request.temporaries:
            for size in _tensor_parts(tensor):
                arena.borrow(size)
        for size in request.at_prepare:
            arena.keep(size, _ALIGNMENT)
        if where in variables.bytes_of:
            arena.keep(variables.bytes_of[where], _ALIGNMENT)
        scratch += len(request.scratch)
        arena.reserve(_SCRATCH_REQUEST * (scratch + _MOST_SCRATCH_PER_OPERATOR))
    return scratch


def _finish(
    arena: _Arena, graphs: list[graph_lib.Graph], scratch: int, plan: timeline.Layout
) -> None:
    """The plan, then the application's view of inputs and outputs."""
    if scratch:
        arena.keep(_SCRATCH_HANDLE * scratch)
    arena.borrow(4 * len(graphs))
    arena.borrow(_LIFETIME * (sum(len(graph.tensors) for graph in graphs) + scratch))
    for tensor in plan.variables:
        arena.keep(tensor.nbytes, _ALIGNMENT)
    arena.plan(len(plan.found))
    arena.reserve(0)
    arena.reserve(plan.head_bytes)
    for group in (graphs[0].inputs, graphs[0].outputs):
        arena.keep(4 * len(group), _ALIGNMENT)
        for tensor in group:
            for size in _tensor_parts(tensor):
                arena.keep(size)


def predict(graphs: list[graph_lib.Graph], chip: target.Target) -> Prediction:
    """Predicts the arena of a file on a target.

    Args:
        graphs: All subgraphs of the file.
        chip: The target.

    Raises:
        ArenaError: The graph or its offline plan cannot be followed.
    """
    asked = requests(graphs, chip)
    scratch = {where: request.scratch for where, request in asked.items() if request.scratch}
    plan = timeline.lay_out(graphs, scratch)
    arena = _Arena()
    variables = resource_variables(graphs)
    _start(arena, graphs, variables)
    count = _prepare(arena, variables, asked)
    loading = arena.most
    _finish(arena, graphs, count, plan)
    unknown = {
        graphs[number].ops[index].custom_code or graphs[number].ops[index].kind
        for (number, index), request in asked.items()
        if not request.known
    }
    return Prediction(
        chip,
        memory_planner.align(arena.most),
        plan.head_bytes,
        arena.tail,
        loading,
        tuple(sorted(unknown)),
        next((request.refused for request in asked.values() if request.refused), ""),
        scratch,
    )
