"""What any `.tflite` needs on TFLM: operators, resolver, arena, and a map of it."""

import collections
import os
import pathlib
import re
import select
import signal
import sys

from converters.report import arena_map, arena_picture
from converters.tflite import graph as graph_lib
from converters.tflite import reader as reader_lib
from converters.tflite import writer as writer_lib
from converters.tflm import arena_probe, operators

_MOST_SCRATCH_TRIALS = 200
_VERIFY_SECONDS = 30.0


class ReportError(ValueError):
    """The file cannot be reported on; the message is for the user."""


def resolver_code(graphs: list[graph_lib.Graph]) -> str:
    """Returns C++ that registers exactly the operators that the graphs need."""
    methods, missing = needed(graphs)
    lines = [
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"',
        "",
        f"using OpResolver = tflite::MicroMutableOpResolver<{max(len(methods), 1)}>;",
        "",
        "TfLiteStatus RegisterOps(OpResolver& resolver) {",
    ]
    lines += [f"  TF_LITE_ENSURE_STATUS(resolver.{method}());" for method in methods]
    for name in missing:
        # A name from the file must not leave the comment it is written in.
        lines.append(f"  // TFLM has no {re.sub(r'[^A-Za-z0-9_ .:-]', '?', name)}.")
    return "\n".join([*lines, "  return kTfLiteOk;", "}"])


def needed(graphs: list[graph_lib.Graph]) -> tuple[list[str], list[str]]:
    """Returns the resolver's methods for the graphs' operators, and operators that TFLM lacks."""
    methods, missing = set(), set()
    for graph in graphs:
        for op in graph.ops:
            table = operators.CUSTOM if op.kind == "CUSTOM" else operators.BUILTIN
            name = op.custom_code if op.kind == "CUSTOM" else op.kind
            if name in table:
                methods.add(table[name])
            else:
                missing.add(
                    f"custom operator {arena_map.printable(name) or 'without a name'}"
                    if op.kind == "CUSTOM"
                    else name
                )
    return sorted(methods), sorted(missing)


def measure_scratch(graphs: list[graph_lib.Graph]) -> dict[tuple[int, int], int]:
    """Learns from TFLM how much scratch each operator asks for.

    Every operator runs alone, in a graph of its own: what the arena's head then holds beyond the
    operator's inputs and outputs is its scratch.

    Args:
      graphs: All subgraphs of a file.

    Returns:
      Bytes by (subgraph, operator); operators that cannot run alone are left out.
    """
    known: dict[tuple, int] = {}
    result = {}
    for number, graph in enumerate(graphs):
        for index, op in enumerate(graph.ops):
            if op.kind in ("IF", "WHILE", "CALL_ONCE", "VAR_HANDLE"):
                continue
            key = (
                op.kind,
                op.custom_code,
                op.custom_options,
                *((t.shape, t.type_name, t.data is None) if t else None for t in op.inputs),
                *((t.shape, t.type_name) for t in op.outputs),
                repr(sorted(vars(op.options).items())) if op.options else "",
            )
            if key not in known:
                if len(known) >= _MOST_SCRATCH_TRIALS:
                    return result
                known[key] = _scratch_alone(op)
            if known[key]:
                result[number, index] = known[key]
    return result


def _scratch_alone(op: graph_lib.Op) -> int:
    inputs = [t for t in op.inputs if t is not None and t.data is None and not t.is_variable]
    alone = graph_lib.Graph(list(dict.fromkeys(inputs)), list(op.outputs), [op])
    try:
        data = writer_lib.write(alone)
        arena = arena_map.build([reader_lib.read(data)])
    except (ValueError, AttributeError, TypeError, KeyError):
        return 0
    _, text = arena_probe.trial(data, 2 * arena.head_bytes + len(data) + (1 << 20), record=True)
    head = re.search(r"Arena allocation head (\d+) bytes", text)
    return max(int(head.group(1)) - arena.head_bytes, 0) if head else 0


def verify(data: bytes):
    """Checks a file with the TFLite schema's verifier, in a child.

    Raises:
      ReportError: The verifier rejects the file.
    """
    if b"is not a valid Flatbuffer" in _in_child(_verify, data, seconds=_VERIFY_SECONDS):
        raise ReportError("damaged .tflite: the TFLite schema's verifier rejects it")


def _verify(data: bytes) -> bytes:
    from ai_edge_litert import interpreter

    try:
        interpreter.Interpreter(
            model_content=data,
            experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF,
        )
    except (ValueError, RuntimeError) as error:
        return str(error).encode()
    return b""


def _in_child(function, argument, seconds: float) -> bytes:
    """Returns function(argument) from a forked child, b"" if that dies or takes too long."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.write(writer, function(argument)[:4096])
        finally:
            os._exit(0)
    os.close(writer)
    try:
        ready = select.select([reader], [], [], seconds)[0]
        return os.read(reader, 4096) if ready else b""
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)


def _summary(path: str, data: bytes, graphs: list[graph_lib.Graph]) -> list[str]:
    constants: dict[bytes, int] = {}
    for graph in graphs:
        for tensor in graph.tensors:
            if tensor.data is not None:
                constants.setdefault(tensor.data.tobytes(), tensor.data.nbytes)
    counts = collections.Counter(
        (
            arena_map.operator_name(op),
            "/".join(sorted({t.type_name for t in op.outputs})).lower(),
        )
        for graph in graphs
        for op in graph.ops
    )
    tensors = sum(len(graph.tensors) for graph in graphs)
    result = [
        f"{path}: {len(data):,} bytes, of which {sum(constants.values()):,} constants; "
        f"{sum(counts.values())} operators, {tensors} tensors"
        + (f", {len(graphs)} subgraphs" if len(graphs) > 1 else "")
    ]
    for role, group in (("input", graphs[0].inputs), ("output", graphs[0].outputs)):
        for tensor in group:
            shape = "×".join(map(str, tensor.shape)) or "scalar"
            result.append(f"{role}: {arena_map.printable(tensor.name)}, {tensor.type_name} {shape}")
    result.append("")
    for (name, types), count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        result.append(f"{count:>5} × {name} -> {types}")
    return result


def _peak_lines(arena: arena_map.ArenaMap) -> list[str]:
    step = arena.steps[arena.peak]
    result = [f"peak: {arena.in_use[arena.peak]:,} bytes in use at {step.label}; alive there:"]
    for block in arena.alive(arena.peak)[:12]:
        maker = arena.steps[block.first].label
        result.append(
            f"{block.size:>12,} bytes at {block.offset:>9,}: {block.label} "
            f"({block.role}, from {maker} to {arena.steps[block.last].label})"
        )
    if len(arena.alive(arena.peak)) > 12:
        result.append(f"{len(arena.alive(arena.peak)) - 12:>12} more")
    return result


def report(path: str, picture: str | None):
    """Prints the report on a file.

    Args:
      path: The `.tflite`.
      picture: The PNG to write, or None.

    Raises:
      ReportError: The file is damaged.
      flatbuffer.FlatbufferError: Likewise.
      OSError: A file cannot be read or written.
    """
    data = pathlib.Path(path).read_bytes()
    graphs = arena_map.read_all(data)
    verify(data)
    try:
        arena, map_error = arena_map.build(graphs), None
    except arena_map.ArenaError as error:
        arena, map_error = None, error
    print("\n".join(_summary(path, data, graphs)))
    missing = needed(graphs)[1]
    print(f"\nOperators for the firmware (TFLM of {operators.DATE}):\n")
    print(resolver_code(graphs))
    print()
    if missing:
        print(f"TFLM lacks: {', '.join(missing)}")
    sys.stdout.flush()

    recorded = None
    try:
        recorded = arena_probe.probe(data)
    except arena_probe.ProbeError as error:
        words = " ".join(arena_map.printable(str(error), 600).split())
        print(f"arena: not measured, TFLM cannot run the model: {words}")
    if recorded:
        print(
            f"arena on this machine ({8 * _pointer_bytes()}-bit): head "
            f"{recorded['head_bytes']:,} + tail {recorded['tail_bytes']:,} = "
            f"{recorded['used_bytes']:,} bytes used; the smallest that runs: "
            f"{recorded['smallest_bytes']:,} bytes"
        )
        if arena and arena.head_bytes != recorded["head_bytes"]:
            arena = arena_map.build(graphs, measure_scratch(graphs))
        if arena and arena.head_bytes == recorded["head_bytes"]:
            print("the map below agrees with TFLM to the byte")
        elif arena:
            print(
                f"the map below has {arena.head_bytes:,} of the head's "
                f"{recorded['head_bytes']:,} bytes: operators' scratch is not all known"
            )
    if map_error:
        print(f"no map of the arena: {map_error}")
        return
    offline = sum(block.fixed for block in arena.blocks)
    if offline:
        print(f"the file's offline plan places {offline} of {len(arena.blocks)} tensors")
    print()
    print(f"arena head over time, {arena.head_bytes:,} bytes from left to right:")
    print("\n".join(arena_picture.lines(arena)))
    print()
    print("\n".join(_peak_lines(arena)))
    if picture:
        title = f"{arena_map.printable(pathlib.Path(path).name)}: arena head {arena.head_bytes:,}"
        if recorded:
            title += f" + tail {recorded['tail_bytes']:,}; runs in {recorded['smallest_bytes']:,}"
        arena_picture.write_png(
            arena, picture, title + " bytes", recorded["tail_bytes"] if recorded else None
        )
        print(f"picture: {picture}")


def _pointer_bytes() -> int:
    return 8 if sys.maxsize > 2**32 else 4
