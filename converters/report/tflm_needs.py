"""What any `.tflite` needs on TFLM: operators, resolver, arena, and a map of it."""

import collections
import pathlib
import re
import sys

from converters.report import arena_map, arena_picture
from converters.tflite import graph as graph_lib
from converters.tflite import reader as reader_lib
from converters.tflm import arena_model, arena_probe, child, operators, target, timeline
from embbert_tf import errors
from embbert_tf.data import files

_VERIFY_SECONDS = 30.0


class ReportError(errors.EmbBertError):
    """The file cannot be reported on; `text` is what the report had said before.

    Attributes:
        text: Lines, possibly none.
    """

    text = ""


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
                    f"custom operator {timeline.printable(name) or 'without a name'}"
                    if op.kind == "CUSTOM"
                    else name
                )
    return sorted(methods), sorted(missing)


def verify(data: bytes) -> None:
    """Checks a file with the TFLite schema's verifier, in a child.

    Raises:
        ReportError: The verifier rejects the file.
    """
    answer = child.call(lambda: _verdict(data), _VERIFY_SECONDS).answer or b""
    if b"is not a valid Flatbuffer" in answer:
        raise ReportError("damaged .tflite: the TFLite schema's verifier rejects it")


def _verdict(data: bytes) -> bytes:
    """Returns the verifier's complaint, nothing if it has none."""
    from ai_edge_litert import interpreter

    try:
        interpreter.Interpreter(
            model_content=data,
            experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF,
        )
    except (ValueError, RuntimeError) as error:
        return str(error).encode()
    return b""


def _summary(path: str, data: bytes, graphs: list[graph_lib.Graph]) -> list[str]:
    constants: dict[bytes, int] = {}
    for graph in graphs:
        for tensor in graph.tensors:
            if tensor.data is not None:
                constants.setdefault(tensor.data.tobytes(), tensor.data.nbytes)
    counts = collections.Counter(
        (
            timeline.operator_name(op),
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
            result.append(f"{role}: {timeline.printable(tensor.name)}, {tensor.type_name} {shape}")
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


def report_under_limits(
    path: files.PathLike, picture: files.PathLike | None, seconds: float, memory_mb: int
) -> str:
    """Returns the report on a file that may be damaged, or mean harm.

    Everything that touches the file happens in child processes; the caller must have no threads.

    Args:
        path: The `.tflite`.
        picture: The PNG to write, or None.
        seconds: After which the analysis is given up.
        memory_mb: Memory that the analysis may take, in MiB.

    Raises:
        ReportError: The file is damaged, or the analysis exceeds a limit. What it had said by then
            is in the error's `text`.
        FileError: A file cannot be read or written.
    """
    data = files.read_bytes(path)

    def work() -> bytes:
        try:
            report(path, data, picture)
        except errors.FileError as error:
            return b"F" + str(error).encode()
        except errors.EmbBertError as error:
            return b"R" + timeline.printable(str(error), 300).encode()
        except MemoryError:
            return (
                f"Rdamaged .tflite, or one that needs more than {memory_mb} MiB of memory".encode()
            )
        return b""

    outcome = child.call(work, seconds, memory_bytes=memory_mb << 20, own_group=True)
    if outcome.answer == b"":
        return outcome.text
    if outcome.answer is not None:
        message = outcome.answer[1:].decode()
        if outcome.answer.startswith(b"F"):
            raise errors.FileError(message)
    elif outcome.late:
        message = f"given up after {seconds:g} seconds; allow more time"
    elif outcome.signal is not None:
        message = f"damaged .tflite: reading it died of signal {outcome.signal}"
    else:
        raise RuntimeError(f"the analysis of {path} failed:\n{outcome.text}")
    error = ReportError(f"{path}: {message}")
    error.text = outcome.text
    raise error


def report(path: files.PathLike, data: bytes, picture: files.PathLike | None) -> None:
    """Prints the report on a file; `report_under_limits` does so where that is safe.

    Args:
        path: What to call the file.
        data: The `.tflite`.
        picture: The PNG to write, or None.

    Raises:
        ReportError: The file is damaged.
        FlatbufferError: Likewise.
        FileError: The picture cannot be written.
    """
    graphs = reader_lib.read_all(data)
    verify(data)
    try:
        arena, map_error = arena_map.build(graphs), None
    except timeline.ArenaError as error:
        arena, map_error = None, error
    print("\n".join(_summary(str(path), data, graphs)))
    print(f"\nOperators for the firmware (TFLM of {operators.DATE}):\n")
    print(resolver_code(graphs))
    print()
    missing = needed(graphs)[1]
    if missing:
        print(f"TFLM lacks: {', '.join(missing)}")
    sys.stdout.flush()
    recorded = _measure(data)
    if arena and recorded:
        arena = _complete(arena, graphs, recorded["head_bytes"])
    if arena is None:
        print(f"no map of the arena: {map_error}")
        return
    _print_map(arena)
    if picture:
        title = f"{timeline.printable(pathlib.Path(path).name)}: arena head {arena.head_bytes:,}"
        if recorded:
            title += f" + tail {recorded['tail_bytes']:,}; runs in {recorded['smallest_bytes']:,}"
        tail = recorded["tail_bytes"] if recorded else None
        arena_picture.write_png(arena, picture, title + " bytes", tail)
        print(f"picture: {picture}")


def _measure(data: bytes) -> dict[str, int] | None:
    """Prints and returns the arena that TFLM records; None where it cannot run the model."""
    try:
        recorded = arena_probe.probe(data)
    except arena_probe.ProbeError as error:
        words = " ".join(timeline.printable(str(error), 600).split())
        print(f"arena: not measured, TFLM cannot run the model: {words}")
        return None
    print(
        f"arena on this machine ({64 if sys.maxsize > 2**32 else 32}-bit): head "
        f"{recorded['head_bytes']:,} + tail {recorded['tail_bytes']:,} = "
        f"{recorded['used_bytes']:,} bytes used; the smallest that runs: "
        f"{recorded['smallest_bytes']:,} bytes"
    )
    return recorded


def _complete(
    arena: arena_map.ArenaMap, graphs: list[graph_lib.Graph], head_bytes: int
) -> arena_map.ArenaMap:
    """Adds the operators' scratch where it is needed, and says whether the map is TFLM's then."""
    if arena.head_bytes != head_bytes:
        reference = target.make("cortex-m4", "reference")
        arena = arena_map.build(graphs, arena_model.predict(graphs, reference).scratch)
    if arena.head_bytes == head_bytes:
        print("the map below agrees with TFLM to the byte")
    else:
        print(
            f"the map below has {arena.head_bytes:,} of the head's {head_bytes:,} bytes: "
            "operators' scratch is not all known"
        )
    return arena


def _print_map(arena: arena_map.ArenaMap) -> None:
    offline = sum(block.fixed for block in arena.blocks)
    if offline:
        print(f"the file's offline plan places {offline} of {len(arena.blocks)} tensors")
    print()
    print(f"arena head over time, {arena.head_bytes:,} bytes from left to right:")
    print("\n".join(arena_picture.lines(arena)))
    print()
    print("\n".join(_peak_lines(arena)))
