"""Runs graphs with EMBBERT_SELECTIVE_SCAN on this machine.

TFLM's package for Python knows no operator of this project. So the graph is cut at the scans: what
lies between is TFLM's, the scans are `converters.kernels.selective_scan`'s, which a board's kernel
equals to the byte.
"""

from typing import Protocol

import numpy as np
from tflite_micro.python.tflite_micro import runtime

from converters.kernels import selective_scan
from converters.tflite import graph as graph_lib
from converters.tflite import reader, writer
from converters.tflite.graph import Graph, Op


class Interpreter(Protocol):
    """What of TFLM's interpreter a runner needs."""

    def set_input(self, values: np.ndarray, index: int) -> None:
        """Sets an input."""

    def invoke(self) -> None:
        """Runs the graph."""

    def get_output(self, index: int) -> np.ndarray:
        """Returns an output."""


def interpreter(tflite: bytes, arena_bytes: int) -> Interpreter:
    """Returns TFLM's interpreter of a file, or of its parts where there are scans between them.

    Args:
        tflite: The file's bytes.
        arena_bytes: Of each interpreter's arena.

    Raises:
        KernelParamsError: A scan's options are none of this version.
    """
    try:
        graph = reader.read(tflite)
    except graph_lib.FlatbufferError:
        graph = None  # For TFLM to say what is wrong.
    if graph is None or not any(map(is_scan, graph.ops)):
        return runtime.Interpreter.from_bytes(tflite, arena_size=arena_bytes)
    return ScanInterpreter(graph, arena_bytes)


def is_scan(op: Op) -> bool:
    """Whether an operator is the selective scan."""
    return op.kind == "CUSTOM" and op.custom_code == selective_scan.OPERATOR


class ScanInterpreter:
    """A graph whose scans NumPy computes and whose other operators TFLM does.

    Args:
        graph: The graph.
        arena_bytes: Of the arena of each part.
    """

    def __init__(self, graph: Graph, arena_bytes: int) -> None:
        self._graph = graph
        self._values: dict[int, np.ndarray] = {}
        self._parts: list[_Part | _Scan] = []
        between: list[Op] = []
        for number, op in enumerate(graph.ops):
            if not is_scan(op):
                between.append(op)
                continue
            self._add(between, graph.ops[number:], arena_bytes)
            self._parts.append(_Scan(op))
            between = []
        self._add(between, [], arena_bytes)

    def _add(self, ops: list[Op], later: list[Op], arena_bytes: int) -> None:
        if not ops:
            return
        read_later = {id(tensor) for op in later for tensor in op.inputs}
        read_later |= {id(tensor) for tensor in self._graph.outputs}
        made = [tensor for op in ops for tensor in op.outputs]
        here = {id(tensor) for tensor in made}
        read = [t for op in ops for t in op.inputs if t is not None and t.data is None]
        inputs = {id(t): t for t in read if id(t) not in here}
        outputs = [tensor for tensor in made if id(tensor) in read_later]
        self._parts.append(_Part(Graph(list(inputs.values()), outputs, ops), arena_bytes))

    def set_input(self, values: np.ndarray, index: int) -> None:
        """Sets an input."""
        self._values[id(self._graph.inputs[index])] = np.asarray(values)

    def invoke(self) -> None:
        """Runs the graph."""
        for part in self._parts:
            part.run(self._values)

    def get_output(self, index: int) -> np.ndarray:
        """Returns an output."""
        return self._values[id(self._graph.outputs[index])]


class _Part:
    """What lies between two scans."""

    def __init__(self, graph: Graph, arena_bytes: int) -> None:
        self._inputs, self._outputs = graph.inputs, graph.outputs
        data = writer.write(graph)
        self._interpreter = runtime.Interpreter.from_bytes(data, arena_size=arena_bytes)

    def run(self, values: dict[int, np.ndarray]) -> None:
        for index, tensor in enumerate(self._inputs):
            self._interpreter.set_input(values[id(tensor)], index)
        self._interpreter.invoke()
        for index, tensor in enumerate(self._outputs):
            values[id(tensor)] = np.array(self._interpreter.get_output(index))


class _Scan:
    """A scan."""

    def __init__(self, op: Op) -> None:
        self._params = selective_scan.read_params(op)
        self._inputs = [tensor for tensor in op.inputs[:4] if tensor is not None]
        self._output = op.outputs[0]

    def run(self, values: dict[int, np.ndarray]) -> None:
        widths = (self._params.channels, self._params.channels, self._params.states)
        arrays = [
            values[id(tensor)].reshape(-1, width)
            for tensor, width in zip(self._inputs, (*widths, self._params.states), strict=True)
        ]
        result = selective_scan.scan(self._params, *arrays)
        values[id(self._output)] = result.reshape(self._output.shape)
