"""Whether a `.tflite` runs on TFLM: tried here, and compared with a reference interpreter."""

import dataclasses
import re
from collections.abc import Sequence

from converters.report import application
from converters.tflite import graph as graph_lib
from converters.tflite import survey as survey_lib
from converters.tflm import (
    arena_probe,
    arrays,
    comparison,
    operators,
    probe_inputs,
    timeline,
)

RUNS = "runs"
REFUSED = "refused"
WRONG = "wrong"
UNDETERMINED = "undetermined"
NOT_COMPARED = "not compared"
NOT_TRIED = "not tried"
_INFERENCES, _LARGE = 3, 8 << 20
_MOST_WORDS = 600
# What TFLM's Python package says besides the reason.
_NOISE = re.compile(
    r"^(RuntimeError: (TFLM failed to allocate tensors|Interpreter invocation failed\.?)|INFO: .*|"
    r"(Input|Output) index \d+ out of range .*|\[RecordingMicroAllocator\].*|Arena allocation .*|"
    r"Failed starting model allocation\.|\s*)$"
)

# Operators that take values for places of other tensors, and say no more when one is not there.
_LOOK_UP_FAILED = re.compile(
    r"Node (GATHER|GATHER_ND|EMBEDDING_LOOKUP|SLICE|STRIDED_SLICE|DYNAMIC_UPDATE_SLICE) "
    r"\(number \d+\) failed to invoke with status \d+"
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a file fares on TFLM.

    Attributes:
        kind: RUNS, REFUSED (TFLM does not load or run it), WRONG (its answers are not the
            model's), UNDETERMINED (they depend on what the memory happens to hold), NOT_COMPARED
            (it loads and answers, but nothing tells whether rightly), or NOT_TRIED (this machine's
            probe cannot; that says nothing about TFLM).
        reason: Why, or how the answers compare; a sentence for people.
        recorded: Head, tail and used bytes that TFLM's recording allocator counts on this machine;
            None where it did not run.
    """

    kind: str
    reason: str
    recorded: dict[str, int] | None = None


def _reason(text: str) -> str:
    """TFLM's own words, without what is no reason."""
    lines = [line.strip() for line in text.splitlines() if not _NOISE.match(line.strip())]
    return timeline.sentence(" / ".join(lines), _MOST_WORDS)


def judge(
    data: bytes,
    graphs: list[graph_lib.Graph],
    findings: Sequence[survey_lib.Finding],
    arena: int,
    most: int,
) -> Verdict:
    """Tries a file on this machine's TFLM.

    Args:
        data: The file.
        graphs: Its subgraphs.
        findings: From `survey`.
        arena: Bytes that 32-bit cores need; this machine gets a multiple of it.
        most: Bytes of arena that may be tried.
    """
    for finding in findings:
        if finding.kind == survey_lib.WRONG:
            return Verdict(WRONG, finding.text)
    refusal = next((f.text for f in findings if f.kind == survey_lib.REFUSED), "")
    need = application.needs(graphs)
    if need.missing or need.unknown or need.embbert or need.scan:
        lacking = _lacking(need)
        return Verdict(REFUSED, refusal) if refusal and lacking.kind == NOT_TRIED else lacking
    room = 4 * arena + (1 << 20)
    if room > most:
        return Verdict(
            NOT_TRIED,
            f"it needs {arena:,} bytes of arena, more than this report tries here "
            f"({most >> 20:,} MiB with --memory_mb)",
        )
    trials = (
        probe_inputs.choose(graphs, _INFERENCES if arena < _LARGE else 1),
        probe_inputs.constant(graphs, 0),
        probe_inputs.constant(graphs, 1),
    )
    words = []
    for inputs in trials:
        answer, text = arena_probe.trial(data, room, inputs, record=True)
        if answer is not None:
            return _compared(data, graphs, findings, inputs, answer, text, room)
        said = _reason(text)
        if not said or said.startswith(arena_probe.DIED):
            said = refusal or said or "it gave no reason"
        words.append(said)
        if "failed to invoke" not in text and "invocation failed" not in text:
            break
    if _LOOK_UP_FAILED.fullmatch(words[0]) and not _reference_runs(data, trials[0]):
        return Verdict(
            NOT_TRIED,
            f"no input was found that it takes: {words[0]}, and the reference interpreter stops "
            "at the same inputs; its values look up rows of a table, and this report does not "
            "see which ones are there",
        )
    return _failed(words[0])


def _reference_runs(data: bytes, inputs: arena_probe.Inputs) -> bool:
    try:
        comparison.reference(data, inputs)
    except comparison.ReferenceError:
        return False
    return True


def _lacking(need: application.Needs) -> Verdict:
    if need.missing:
        return Verdict(REFUSED, f"TFLM lacks {', '.join(need.missing)}")
    if need.unknown:
        return Verdict(
            NOT_TRIED,
            "it has custom operators that the application brings along: "
            + ", ".join(timeline.printable(name) or "without a name" for name in need.unknown),
        )
    return Verdict(
        NOT_TRIED,
        "TFLM on this machine has no operators of this project; on boards, "
        "tflm_app/tflm brings them, and the firmware's tests compare their answers",
    )


def _failed(words: str) -> Verdict:
    found = re.search(r"Didn't find op for builtin opcode '(\w+)'", words)
    if found and found[1] in operators.BUILTIN:
        return Verdict(
            NOT_TRIED,
            f"this machine's build of TFLM lacks {found[1]}, which TFLM of {operators.DATE} has",
        )
    if "registration from op code CUSTOM" in words:
        return Verdict(
            NOT_TRIED,
            "this machine's build of TFLM lacks one of the file's custom operators, which TFLM of "
            f"{operators.DATE} has",
        )
    if words.startswith(arena_probe.LATE):
        return Verdict(NOT_TRIED, words)
    return Verdict(REFUSED, words)


def _compared(
    data: bytes,
    graphs: list[graph_lib.Graph],
    findings: Sequence[survey_lib.Finding],
    inputs: arena_probe.Inputs,
    answer: bytes,
    text: str,
    room: int,
) -> Verdict:
    recorded = arena_probe.recorded(text)
    for finding in findings:
        if finding.kind == survey_lib.UNDETERMINED:
            return Verdict(UNDETERMINED, finding.text, recorded)
    try:
        expected = comparison.reference(data, inputs)
    except comparison.ReferenceError as error:
        words = timeline.sentence(str(error))
        custom = [op.custom_code for g in graphs for op in g.ops if op.kind == "CUSTOM"]
        why = f"has no operator {timeline.printable(custom[0])}" if custom else f"says: {words}"
        return Verdict(
            NOT_COMPARED,
            "what it answers could not be compared: the reference interpreter " + why,
            recorded,
        )
    again = arena_probe.trial(data, room + 4096, inputs, fill=True)[0]
    if again != answer:
        return Verdict(
            UNDETERMINED,
            "it reads memory before anything writes there: the same inputs gave two answers, as "
            "the arena held other bytes before",
            recorded,
        )
    found = comparison.compare(graphs[0], arrays.unpack(answer), expected)
    many = f"{len(inputs)} inputs" if len(inputs) > 1 else "one input"
    if not found.agree:
        return Verdict(
            WRONG,
            f"TFLM's answers to {many} are not those of the reference interpreter: {found.text}",
            recorded,
        )
    how = "equal those of" if found.exact else "agree with those of"
    end = "" if found.exact else f" ({found.text})"
    return Verdict(RUNS, f"TFLM's answers to {many} {how} the reference interpreter{end}", recorded)
