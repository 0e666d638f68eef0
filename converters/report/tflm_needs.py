"""The report on any `.tflite`: analysed and written in a child process with limits."""

import dataclasses
import json
import pathlib
import re

from converters.report import analysis, arena_picture, page, tflm_text, vela, verdict
from converters.tflite import reader
from converters.tflm import child, timeline
from converters.tflm import target as target_lib
from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.model.option import check, documented, option

_VERIFY_SECONDS = 30.0
_SUFFIXES = {"": 1, "k": 1 << 10, "m": 1 << 20}

# Exit status of the command.
FINE, UNREADABLE, DOES_NOT_RUN, TOO_LARGE = 0, 1, 2, 3


class ReportError(errors.EmbBertError):
    """The file cannot be reported on; `text` is what the report had said before.

    Attributes:
        text: Lines, possibly none.
    """

    text = ""


@documented
@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What is reported, and how."""

    target: str | None = option(
        None,
        "The core to predict the arena of; default: all of them.",
        choices=tuple(target_lib.EXTENSIONS),
    )
    kernels: str | None = option(
        None,
        "The kernels that TFLM is built with; default: both, in a table.",
        choices=target_lib.KERNELS,
    )
    max_arena: str | None = option(
        None,
        "Bytes, such as 65536, 64k or 1M: the exit status is 3 where a target's arena is larger.",
    )
    npu: str | None = option(
        None,
        "The NPU to ask Arm's compiler Vela for, such as ethos-u55-128; default: where Vela is "
        "installed, a U55 and a U85.",
    )
    json: bool = option(False, "Print JSON instead of text.")
    picture: str | None = option(
        None,
        "The PNG to write; default NAME.arena.png in the current folder, none with --json; '' for "
        "none.",
    )
    html: str | None = option(None, "Write the report as a page that needs no other file.")
    timeout: float = option(300.0, "Seconds after which the analysis is given up.", minimum=0.001)
    memory_mb: int = option(8192, "Memory limit of the analysis in MiB.", minimum=256)

    def __post_init__(self):
        check(self)
        self.limit()

    def limit(self) -> int | None:
        """Returns `max_arena` in bytes.

        Raises:
            OptionError: It is no number of bytes.
        """
        if self.max_arena is None:
            return None
        found = re.fullmatch(r"(\d{1,12})([kKmM]?)", self.max_arena)
        if found is None:
            raise errors.OptionError(
                f"max_arena must be a number of bytes, such as 65536, 64k or 1M, not "
                f"{self.max_arena!r}"
            )
        return int(found[1]) * _SUFFIXES[found[2].lower()]

    def picture_of(self, path: files.PathLike) -> str | None:
        """Returns the PNG to write, None for none."""
        if self.picture is None:
            return None if self.json else f"{pathlib.Path(path).stem}.arena.png"
        return self.picture or None


@dataclasses.dataclass(frozen=True)
class Report:
    """What the command prints and ends with.

    Attributes:
        text: Standard output.
        status: Exit status: FINE, DOES_NOT_RUN or TOO_LARGE.
        message: Why it is not FINE, in one line.
    """

    text: str
    status: int
    message: str


def verify(data: bytes) -> None:
    """Checks a file with the TFLite schema's verifier, in a child.

    Raises:
        ReportError: The verifier rejects the file.
    """
    answer = child.call(lambda: _complaint(data), _VERIFY_SECONDS).answer or b""
    if b"is not a valid Flatbuffer" in answer:
        raise ReportError("damaged .tflite: the TFLite schema's verifier rejects it")


def _complaint(data: bytes) -> bytes:
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


def report_under_limits(path: files.PathLike, options: ReportOptions) -> Report:
    """Reports on a file that may be damaged, or mean harm.

    Everything that touches the file happens in child processes; the caller must have no threads.

    Args:
        path: The `.tflite`.
        options: What is reported, and how.

    Raises:
        ReportError: The file is damaged, or the analysis exceeds a limit. What it had said by then
            is in the error's `text`.
        FileError: A file cannot be read or written.
    """
    data = files.read_bytes(path)

    def work() -> bytes:
        try:
            status, message = report(path, data, options)
        except errors.FileError as error:
            return b"F" + str(error).encode()
        except errors.EmbBertError as error:
            return b"R" + timeline.sentence(str(error), 300).encode()
        except MemoryError:
            return (
                f"Rdamaged .tflite, or one that needs more than {options.memory_mb} MiB of memory"
            ).encode()
        return b"S" + json.dumps([status, message]).encode()

    outcome = child.call(
        work, options.timeout, memory_bytes=options.memory_mb << 20, own_group=True
    )
    if outcome.answer is not None:
        message = outcome.answer[1:].decode()
        if outcome.answer.startswith(b"S"):
            status, why = json.loads(message)
            return Report(outcome.text, status, f"{path}: {why}" if why else "")
        if outcome.answer.startswith(b"F"):
            raise errors.FileError(message)
    elif outcome.late:
        message = f"given up after {options.timeout:g} seconds; allow more time"
    elif outcome.signal is not None:
        message = f"damaged .tflite: reading it died of signal {outcome.signal}"
    else:
        raise RuntimeError(f"the analysis of {path} failed:\n{outcome.text}")
    error = ReportError(f"{path}: {message}")
    error.text = outcome.text
    raise error


def report(path: files.PathLike, data: bytes, options: ReportOptions) -> tuple[int, str]:
    """Prints the report on a file; `report_under_limits` does so where that is safe.

    Returns:
        The exit status, and why it is not FINE.

    Raises:
        ReportError: The file is damaged.
        FlatbufferError: Likewise.
        FileError: Picture or page cannot be written.
    """
    reader.read_all(data)  # Its messages say more than the verifier's.
    verify(data)
    targets = target_lib.chosen(options.target, options.kernels)
    most = max(options.memory_mb // 4, 64) << 20
    found = analysis.analyse(str(path), data, targets, most)
    compiled = vela.results(data, options.npu)
    npu = [timeline.sentence(line, 300) for line in vela.lines(*compiled)]
    if options.json:
        content = analysis.as_json(found) | {"npu": vela.as_json(*compiled)}
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        print(tflm_text.whole(found), end="")
        print("".join(f"{line}\n" for line in npu), end="")
    picture = options.picture_of(path)
    if picture is not None and found.map is not None:
        title = f"{found.name}: arena on {found.mapped.label}"
        arena_picture.write_png(found.map, picture, title, tflm_text.parts(found))
        if not options.json:
            print(f"picture: {picture}")
    if options.html:
        files.write_text(options.html, page.whole(found, npu))
        if not options.json:
            print(f"page: {options.html}")
    return judge(found, options.limit())


def judge(found: analysis.Analysis, limit: int | None) -> tuple[int, str]:
    """Returns the exit status for an analysis, and why it is not FINE.

    Args:
        found: The analysis.
        limit: Bytes that no target's arena may exceed; None for no limit.
    """
    kind = found.verdict.kind
    if kind in (verdict.REFUSED, verdict.WRONG, verdict.UNDETERMINED):
        what = "does not run on TFLM" if kind == verdict.REFUSED else f"{kind} answers on TFLM"
        return DOES_NOT_RUN, f"{what}: {timeline.sentence(found.verdict.reason, 300)}"
    if limit is None:
        return FINE, ""
    if not found.arena:
        return TOO_LARGE, f"no arena figure to hold against the limit of {limit:,} bytes"
    above = [p for p in found.arena if not p.refused and p.bytes > limit]
    if above:
        worst = max(above, key=lambda p: p.bytes)
        return TOO_LARGE, (
            f"an arena of {worst.bytes:,} bytes on {worst.target.label}, the limit is {limit:,}"
        )
    return FINE, ""
