"""All that there is to say about a `.tflite` on TFLM, before it is put into words."""

import collections
import dataclasses
import pathlib
from typing import Any

from converters.report import application, arena_map, verdict, work
from converters.tflite import graph as graph_lib
from converters.tflite import reader
from converters.tflite import survey as survey_lib
from converters.tflm import arena_model, arena_probe, operators, target, timeline


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The report's content.

    Attributes:
        name: Of the file, for people.
        size: Of the file in bytes.
        constants: Bytes of constants in it, equal ones counted once.
        graphs: Its subgraphs.
        verdict: Whether it runs.
        findings: What it uses of the schema that TFLM ignores, refuses or takes otherwise.
        needs: What its operators need.
        arena: Of each target; none where TFLM does not run it, or `map_error` says why.
        map: The arena's head over time, with the scratch of `mapped`; None if it cannot be drawn.
        mapped: The target that `map` is of.
        map_error: Why there is none.
        host_head: Bytes of the head with reference kernels, which this machine's TFLM has.
        work: What an inference computes.
    """

    name: str
    size: int
    constants: int
    graphs: list[graph_lib.Graph]
    verdict: verdict.Verdict
    findings: list[survey_lib.Finding]
    needs: application.Needs
    arena: list[arena_model.Prediction]
    map: arena_map.ArenaMap | None
    mapped: target.Target
    map_error: str
    host_head: int
    work: work.Work

    @property
    def most_arena(self) -> int:
        """The largest of the targets' arenas; 0 where there is none."""
        return max((p.bytes for p in self.arena if not p.refused), default=0)

    def operator_counts(self) -> list[tuple[str, str, int]]:
        """(operator, types of its outputs, how many), most first."""
        counts = collections.Counter(
            (
                timeline.operator_name(op),
                "/".join(sorted({t.type_name for t in op.outputs})).lower(),
            )
            for graph in self.graphs
            for op in graph.ops
        )
        found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [(name, types, count) for (name, types), count in found]


def _constants(graphs: list[graph_lib.Graph]) -> int:
    found: dict[bytes, int] = {}
    for graph in graphs:
        for tensor in graph.tensors:
            if tensor.data is not None:
                found.setdefault(tensor.data.tobytes(), tensor.data.nbytes)
    return sum(found.values())


def analyse(
    name: str, data: bytes, targets: list[target.Target], most: int = arena_probe.LARGE
) -> Analysis:
    """Analyses a file. It runs TFLM in child processes; the caller must have no threads.

    Args:
        name: What to call the file.
        data: The `.tflite`.
        targets: Targets to predict the arena of.
        most: Bytes of arena that may be tried on this machine.

    Raises:
        FlatbufferError: The file cannot be read.
    """
    graphs = reader.read_all(data)
    findings = survey_lib.survey(data, graphs)
    predictions: list[arena_model.Prediction] = []
    drawn, map_error, host_head = None, "", 0
    mapped = targets[0]
    try:
        predictions = [arena_model.predict(graphs, chip) for chip in targets]
        # The largest arena is what has to fit.
        largest = max(predictions, key=lambda p: (not p.refused, p.bytes))
        mapped = largest.target
        drawn = arena_map.build(graphs, largest.scratch)
        reference = target.make("cortex-m4", "reference")
        host_head = arena_model.predict(graphs, reference).head_bytes
    except timeline.ArenaError as error:
        map_error = str(error)
    smallest = max((p.bytes for p in predictions), default=arena_probe.LARGE // 8)
    judged = verdict.judge(data, graphs, findings, smallest, most)
    need = application.needs(graphs)
    if judged.kind == verdict.RUNS:
        findings = [f for f in findings if f.kind != survey_lib.REFUSED]
    if judged.kind == verdict.WRONG or (judged.kind == verdict.REFUSED and not need.missing):
        predictions = []
    return Analysis(
        pathlib.Path(name).name,
        len(data),
        _constants(graphs),
        graphs,
        judged,
        findings,
        need,
        predictions,
        drawn,
        mapped,
        map_error,
        host_head,
        work.count(graphs),
    )


def _tensor(tensor: graph_lib.Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": timeline.printable(tensor.name, 200),
        "type": tensor.type_name,
        "shape": list(tensor.shape),
    }
    if isinstance(tensor.scale, float):
        found |= {"scale": tensor.scale, "zero_point": int(tensor.zero_point)}
    return found


def _prediction(prediction: arena_model.Prediction) -> dict[str, Any]:
    return {
        "target": prediction.target.core,
        "kernels": prediction.target.kernels,
        "bytes": None if prediction.refused else prediction.bytes,
        "head_bytes": prediction.head_bytes,
        "tail_bytes": prediction.tail_bytes,
        "without": list(prediction.unknown),
        "refused": prediction.refused or None,
    }


def as_json(found: Analysis) -> dict[str, Any]:
    """Returns the analysis as what JSON can hold."""
    peak = None
    if found.map is not None:
        peak = {
            "bytes": int(found.map.in_use[found.map.peak]),
            "at": found.map.steps[found.map.peak].label,
            "target": found.mapped.core,
            "kernels": found.mapped.kernels,
        }
    return {
        "file": found.name,
        "bytes": found.size,
        "constants_bytes": found.constants,
        "tflm": operators.DATE,
        "verdict": found.verdict.kind,
        "reason": found.verdict.reason,
        "findings": [dataclasses.asdict(finding) for finding in found.findings],
        "inputs": [_tensor(t) for t in found.graphs[0].inputs],
        "outputs": [_tensor(t) for t in found.graphs[0].outputs],
        "operators": [
            {"name": name, "types": types, "count": count}
            for name, types, count in found.operator_counts()
        ],
        "resolver": list(found.needs.methods),
        "missing": [
            *found.needs.missing,
            *(timeline.printable(name) for name in found.needs.unknown),
        ],
        "int8_variants": found.needs.int8,
        "resource_variables": found.needs.variables,
        "arena": [_prediction(prediction) for prediction in found.arena],
        "largest_arena_bytes": found.most_arena or None,
        "host": found.verdict.recorded,
        "peak": peak,
        "multiply_accumulates": found.work.whole,
        "multiply_accumulates_by_tokens": {
            str(n): count for n, count in found.work.by_length.items()
        },
    }
