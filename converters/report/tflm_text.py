"""The report on a `.tflite` as text, for a terminal."""

from converters.report import analysis, application, arena_map, arena_picture, verdict
from converters.tflite import survey as survey_lib
from converters.tflm import arena_model, operators, timeline

_KINDS = {
    verdict.RUNS: "runs on TFLM",
    verdict.REFUSED: "does not run on TFLM",
    verdict.WRONG: "answers wrongly on TFLM",
    verdict.UNDETERMINED: "loads and runs on TFLM, but its answer is not determined",
    verdict.NOT_COMPARED: "loads and answers on TFLM, not compared",
    verdict.NOT_TRIED: "not tried on this machine",
}


def summary(found: analysis.Analysis) -> list[str]:
    """What the file holds."""
    counts = found.operator_counts()
    tensors = sum(len(graph.tensors) for graph in found.graphs)
    result = [
        f"{timeline.printable(found.name)}: {found.size:,} bytes, of which {found.constants:,} "
        f"constants; "
        f"{sum(count for _, _, count in counts)} operators, {tensors} tensors"
        + (f", {len(found.graphs)} subgraphs" if len(found.graphs) > 1 else "")
    ]
    for role, group in (
        ("input", found.graphs[0].inputs),
        ("output", found.graphs[0].outputs),
    ):
        for tensor in group:
            shape = "×".join(map(str, tensor.shape)) or "scalar"
            result.append(f"{role}: {timeline.printable(tensor.name)}, {tensor.type_name} {shape}")
    result.append("")
    result += [f"{count:>5} × {name} -> {types}" for name, types, count in counts]
    return result


def judgement(found: analysis.Analysis) -> list[str]:
    """Whether it runs, and what there is to say about the file."""
    kind = _KINDS[found.verdict.kind]
    result = [f"{kind}: {timeline.sentence(found.verdict.reason)}"]
    for finding in found.findings:
        if finding.text != found.verdict.reason:
            label = "note" if finding.kind == survey_lib.NOTE else "warning"
            result.append(f"{label}: {timeline.sentence(finding.text)}")
        if finding.mend:
            result.append(f"  mend: {timeline.sentence(finding.mend)}")
    return result


def arena_line(prediction: arena_model.Prediction) -> str:
    """One row of the table of targets."""
    chip = prediction.target
    start = f"{chip.core:<11} {'CMSIS-NN' if chip.cmsis else 'reference':<9}"
    if prediction.refused:
        return f"{start} does not run: {prediction.refused}"
    line = f"{start} {prediction.bytes:>10,} {prediction.head_bytes:>10,}"
    line += f" {prediction.tail_bytes:>9,}"
    if prediction.unknown:
        names = ", ".join(timeline.printable(name) for name in prediction.unknown)
        line += f"  and what {names} asks for itself"
    return line


def arena(found: analysis.Analysis) -> list[str]:
    """The table of targets, and what this machine's TFLM records."""
    if not found.arena:
        return [f"no arena figure: {found.map_error or 'TFLM does not run the model as it is'}"]
    result = [
        "arena in bytes, predicted for 32-bit cores (smallest that runs, aligned to 16; of it, "
        "head: activations and scratch, tail: kept for good):",
        f"{'target':<11} {'kernels':<9} {'arena':>10} {'head':>10} {'tail':>9}",
    ]
    result += [arena_line(prediction) for prediction in found.arena]
    recorded = found.verdict.recorded
    if recorded:
        result.append(
            f"for comparison, TFLM on this 64-bit machine (reference kernels): head "
            f"{recorded['head_bytes']:,} + tail {recorded['tail_bytes']:,} = "
            f"{recorded['used_bytes']:,} bytes; that is no bound for a target"
        )
        if found.host_head == recorded["head_bytes"]:
            result.append("the planner's layout agrees with TFLM to the byte")
        else:
            result.append(
                f"the planner's layout has {found.host_head:,} of those {recorded['head_bytes']:,} "
                "bytes: some operator's scratch is not known"
            )
    return result


def peak(drawn: arena_map.ArenaMap) -> list[str]:
    """What is alive where most of the head is in use."""
    step = drawn.steps[drawn.peak]
    result = [f"peak: {drawn.in_use[drawn.peak]:,} bytes in use at {step.label}; alive there:"]
    alive = drawn.alive(drawn.peak)
    for block in alive[:12]:
        maker = drawn.steps[block.first].label
        result.append(
            f"{block.size:>12,} bytes at {block.offset:>9,}: {block.label} "
            f"({block.role}, from {maker} to {drawn.steps[block.last].label})"
        )
    if len(alive) > 12:
        result.append(f"{len(alive) - 12:>12} more")
    return result


def layout(found: analysis.Analysis) -> list[str]:
    """The map of the head."""
    if found.map is None:
        return [f"no map of the arena: {found.map_error}"]
    drawn = found.map
    result = []
    offline = sum(block.fixed for block in drawn.blocks)
    if offline:
        result.append(
            f"the file's offline plan places {offline} of {len(drawn.blocks)} tensors and buffers"
        )
    result.append(
        f"arena head over time on {found.mapped.label}, {drawn.head_bytes:,} bytes from left to "
        "right:"
    )
    return [*result, *arena_picture.lines(drawn), "", *peak(drawn)]


def parts(found: analysis.Analysis) -> dict[str, int]:
    """Name and bytes of the arena's parts on the target of the map."""
    assert found.map is not None
    result = {"head": found.map.head_bytes}
    for prediction in found.arena:
        if prediction.target == found.mapped:
            result |= {"tail": prediction.tail_bytes, "arena": prediction.bytes}
    return result


def code(found: analysis.Analysis) -> str:
    """A `main.cc`; the resolver alone where no arena is known to suffice."""
    if found.most_arena:
        made = application.main_code(found.needs, found.most_arena, found.name)
        return f"main.cc:\n\n{made}"
    return f"Operators:\n\n{application.resolver_code(found.needs)}\n"


def whole(found: analysis.Analysis) -> str:
    """The whole report."""
    sections = [
        summary(found),
        judgement(found),
        arena(found),
        found.work.lines(),
        layout(found),
        [
            f"The application (TFLM of {operators.DATE}) needs:",
            *(f"- {sentence}" for sentence in application.advice(found.needs)),
        ],
        [code(found)],
    ]
    if found.needs.missing:
        sections[1].append(f"TFLM lacks: {', '.join(found.needs.missing)}")
    return "\n\n".join("\n".join(section).rstrip("\n") for section in sections) + "\n"
