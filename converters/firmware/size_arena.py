"""Finds the smallest tensor arena of a model on a board, by bisection in the emulator.

tflm_app/tflm/tflm.mk builds a program for the purpose. TFLM's own checks fall short: with too small
an arena it may fault or spin, hence one run of the emulator for each size, with a time limit. The
result is arena_size.h, which the app is compiled with: it compares before TFLM sees the arena.
"""

import dataclasses
import json
import pathlib
import subprocess

from converters.firmware import sources
from embbert_tf import errors
from embbert_tf.data import files

_STEP = 16  # TFLM aligns everything in the arena to this
# Beyond the smallest that runs: for the reader's peace of mind, as no run of the same program with
# the same library needs more. One alignment step each for head and tail.
MARGIN = 2 * _STEP
_LOAD_SECONDS = 20.0
_ANSWER_SECONDS = 300.0


class SizeError(errors.EmbBertError):
    """No arena could be found; the message says why."""


@dataclasses.dataclass(frozen=True)
class TargetSize:
    """What was found on a target, in bytes."""

    smallest: int
    used: int
    trials: int

    @property
    def with_margin(self) -> int:
        """The arena that the app gets."""
        return -(-(self.smallest + MARGIN) // _STEP) * _STEP


class Trial:
    """The trial program in the emulator.

    Args:
        program: ELF file that tflm_app/tflm/tflm.mk built.
        machine: QEMU's name of the board.
    """

    def __init__(self, program: pathlib.Path, machine: str) -> None:
        self.program, self.machine = program, machine
        self.count = 0
        self.last_words = ""

    def run(self, arena: int, tokens: int = 0) -> dict | None:
        """Runs once.

        Args:
            arena: Bytes of arena.
            tokens: How many tokens to classify; 0 only loads the model.

        Returns:
            The program's answer (`used_bytes`, with tokens also `logits`), or None when it failed,
            faulted or did not end.
        """
        self.count += 1
        seconds = _ANSWER_SECONDS if tokens else _LOAD_SECONDS
        done = subprocess.run(
            [
                str(sources.firmware() / "boards/emulate.sh"),
                self.machine,
                str(int(seconds)),
                str(self.program),
                str(arena),
                str(tokens),
            ],
            capture_output=True,
            check=False,
        )
        text = done.stdout.decode("utf-8", "replace")
        self.last_words = (text + done.stderr.decode("utf-8", "replace")).strip()
        if done.returncode != 0:
            return None
        try:
            return json.loads(text.strip().splitlines()[-1])
        except (ValueError, IndexError):
            return None


def size_on_target(trial: Trial, large: int, tokens: int = 12) -> TargetSize:
    """Bisects.

    Args:
        trial: The program.
        large: An arena that surely suffices.
        tokens: How many tokens the answers are compared on.

    Raises:
        SizeError: The model does not run even then, or answers differ between two runs alike.
    """
    wanted = trial.run(large, tokens)
    if wanted is None:
        raise SizeError(f"does not run with {large} bytes either: {trial.last_words}")
    used = int(wanted["used_bytes"])
    # Loading alone tells most sizes apart and is quick; the answer has the last word.
    low, high = 0, large
    first = min(large, -(-used // _STEP) * _STEP)
    for guess in (first, first + 1024):
        if guess >= high:
            break
        if trial.run(guess) is not None:
            high = guess
            break
        low = guess
    for guess in (high - 64, high - 1024):
        if low < guess and trial.run(guess) is None:
            low = guess
            break
        if low < guess:
            high = guess
    while high - low > _STEP:
        middle = (low + high) // 2 // _STEP * _STEP
        if middle <= low:
            break
        if trial.run(middle) is None:
            low = middle
        else:
            high = middle
    for _ in range(64):
        answer = trial.run(high, tokens)
        if answer is not None and answer["logits"] == wanted["logits"]:
            return TargetSize(high, used, trial.count)
        high += _STEP
    raise SizeError(f"answers with an arena of {high} bytes still differ from those with {large}")


def header(size: TargetSize, program: str, machine: str) -> str:
    """The text of arena_size.h."""
    return "\n".join(
        [
            f"// Made by converters/firmware/size_arena.py from {program} on {machine}; "
            "do not edit.",
            "#ifndef EMBBERT_ARENA_SIZE_H_",
            "#define EMBBERT_ARENA_SIZE_H_",
            f"// The smallest arena that loads the model and answers correctly: {size.smallest}",
            f"// bytes, of which arena_used_bytes() counts {size.used}. Margin: {MARGIN} bytes.",
            f"#define MODEL_ARENA_BYTES {size.with_margin}u",
            "#endif  // EMBBERT_ARENA_SIZE_H_",
            "",
        ]
    )


def write_header(
    program: files.PathLike, machine: str, folder: files.PathLike, large: int = 448 * 1024
) -> str:
    """Finds the arena of a trial program and writes arena_size.h.

    Args:
        program: ELF file that tflm_app/tflm/tflm.mk built.
        machine: QEMU's name of the board.
        folder: Where to write.
        large: Bytes of an arena that surely suffices.

    Returns:
        One line with what was found.

    Raises:
        SizeError: No arena could be found.
        FileError: The file cannot be written.
    """
    program = pathlib.Path(program)
    if not program.is_file():
        raise errors.FileError(f"{program}: no such file; tflm_app/tflm/tflm.mk builds it")
    size = size_on_target(Trial(program.resolve(), machine), large)
    text = header(size, program.parent.parent.name, machine)
    files.write_text(files.make_folder(folder) / "arena_size.h", text)
    return (
        f"arena on {machine}: smallest {size.smallest} bytes, used {size.used}, "
        f"with margin {size.with_margin} ({size.trials} trials)"
    )
