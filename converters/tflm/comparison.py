"""TFLM's answers beside those of a reference interpreter, LiteRT with its reference kernels."""

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from converters.tflite import graph as graph_lib
from converters.tflm import arena_probe, arrays, child
from embbert_tf import errors

_SECONDS = 60.0
# Share of the range of an output's values that may lie between the two. Quantized layers round in
# places of their own, and later ones magnify that: zoo/snips comes to 6 %.
_MOST_OF_RANGE, _MOST_OF_RANGE_QUANTIZED = 1e-3, 0.15
_STEPS = 2


class ReferenceError(errors.EmbBertError):
    """The reference interpreter does not run the model; the message says why."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How two interpreters' answers compare.

    Attributes:
        agree: Whether they are the same model's.
        exact: Whether they are equal to the bit.
        text: What differs, for people.
    """

    agree: bool
    exact: bool
    text: str


def reference(model: bytes, inputs: arena_probe.Inputs) -> list[list[np.ndarray]]:
    """Returns the reference interpreter's answers to some inferences, from a child process.

    Raises:
        ReferenceError: It does not run the model.
    """
    outcome = child.call(lambda: _answer(model, inputs), _SECONDS)
    if outcome.answer is not None:
        return arrays.unpack(outcome.answer)
    if outcome.late:
        raise ReferenceError(f"no answer within {_SECONDS:g} seconds")
    if outcome.signal is not None:
        raise ReferenceError(f"it died of signal {outcome.signal}")
    lines = [line for line in outcome.text.splitlines() if line.strip()]
    raise ReferenceError(lines[-1] if lines else "no answer")


def _answer(model: bytes, inputs: arena_probe.Inputs) -> bytes:
    from ai_edge_litert import interpreter as litert

    try:
        interpreter = litert.Interpreter(
            model_content=model,
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
            num_threads=1,
        )
        interpreter.allocate_tensors()
        answers = []
        for given in inputs:
            for detail, array in zip(interpreter.get_input_details(), given, strict=True):
                interpreter.set_tensor(detail["index"], array)
            interpreter.invoke()
            answers.append(
                [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
            )
    except (ValueError, RuntimeError) as error:
        print(" ".join(str(error).split()))
        sys.exit(1)
    return arrays.pack(answers)


def compare(
    graph: graph_lib.Graph,
    answers: Sequence[Sequence[np.ndarray]],
    expected: Sequence[Sequence[np.ndarray]],
) -> Comparison:
    """Compares the answers to several inferences.

    Args:
        graph: The first subgraph of the file.
        answers: TFLM's.
        expected: The reference interpreter's.
    """
    exact, parts, agree = True, [], True
    rounds = any(t.scale is not None for op in graph.ops for t in op.outputs)
    share = _MOST_OF_RANGE_QUANTIZED if rounds else _MOST_OF_RANGE
    for number, tensor in enumerate(graph.outputs):
        ours = np.stack([arrays[number].reshape(-1) for arrays in answers]).astype(np.float64)
        theirs = np.stack([arrays[number].reshape(-1) for arrays in expected]).astype(np.float64)
        if ours.shape != theirs.shape:
            return Comparison(False, False, f"output '{tensor.name}' has another size")
        if not ours.size or np.array_equal(ours, theirs, equal_nan=True):
            continue
        if tensor.dtype is not None and tensor.dtype.kind == "f":
            exact = exact and bool(np.allclose(ours, theirs, rtol=1e-5, atol=1e-6))
        else:
            exact = False
        if np.isnan(ours).any() or np.isnan(theirs).any():
            agree, exact = False, False
            parts.append(f"output '{tensor.name}' is not a number in one of them")
            continue
        distance = np.abs(ours - theirs).max()
        span = theirs.max() - theirs.min()
        allowed = max(share * span, 1e-5 * np.abs(theirs).max())
        quantized = tensor.scale is not None and tensor.type_name in ("INT8", "INT16", "UINT8")
        if quantized:
            allowed = max(allowed, _STEPS)
        agree = agree and bool(distance <= allowed)
        unit = " steps" if quantized else ""
        parts.append(
            f"output '{tensor.name}' by up to {distance:g}{unit}, its values spanning {span:g}"
        )
    return Comparison(agree, exact, "; ".join(parts))
