"""Refuses a graph that would not run, or not run in int8, on TFLM."""

from collections.abc import Collection

from converters.tflite import graph as graph_lib
from embbert_tf import errors

# Operators of the portable graph and of a plain conversion that TFLM implements for int8. The
# report on any model (`converters.tflm_report`) has the complete list.
_FLOAT = ("FLOAT16", "FLOAT32", "FLOAT64", "BFLOAT16", "COMPLEX64", "COMPLEX128")


class UnsupportedGraphError(errors.EmbBertError):
    """A graph that must not be shipped; the message names operator and tensor."""


def check_full_int8(graph: graph_lib.Graph) -> None:
    """Raises unless every tensor is an integer.

    Raises:
        UnsupportedGraphError: with the operator and the tensor.
    """
    for index, op in enumerate(graph.ops):
        for role, tensors in (("input", op.inputs), ("output", op.outputs)):
            for tensor in tensors:
                if tensor is not None and tensor.type_name in _FLOAT:
                    raise UnsupportedGraphError(
                        f"operator {index} ({op.kind}) has the {tensor.type_name} {role} "
                        f"'{tensor.name}': the graph is not fully int8"
                    )
    for tensor in graph.inputs:
        if tensor.type_name != "INT32":
            raise UnsupportedGraphError(
                f"input '{tensor.name}' is {tensor.type_name}; token ids are INT32"
            )
    for tensor in graph.outputs:
        if tensor.type_name != "INT8":
            raise UnsupportedGraphError(f"output '{tensor.name}' is {tensor.type_name}, not INT8")


def check_builtin(graph: graph_lib.Graph, custom: Collection[str] = ()) -> None:
    """Raises if the graph has an operator that is neither builtin nor one of ours.

    Args:
        graph: The graph.
        custom: Names of custom operators that the firmware brings along.

    Raises:
        UnsupportedGraphError: with the operator's name.
    """
    for index, op in enumerate(graph.ops):
        if op.kind == "CUSTOM" or op.kind.startswith("FLEX"):
            name = op.custom_code or op.kind
            if name in custom:
                continue
            raise UnsupportedGraphError(f"operator {index} ({name}) is not builtin in TFLM")
