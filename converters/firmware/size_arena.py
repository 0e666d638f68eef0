r"""Finds the smallest tensor arena of a model, on the host or on a board.

  python -m converters.firmware.size_arena --model=build/snips/model
  python -m converters.firmware.size_arena --model=build/snips/model --target=mps2-an386 --graph=fused

On the host: head and tail as TFLM's recording allocator counts them, and the smallest arena with
which the interpreter loads the model and answers as it does with a large one.

On a target (TFLM_DIR and TFLM_LIB in the environment, docs/tflm.md): by bisection in the emulator,
with the program that tflm_app builds for the purpose. TFLM's own checks fall short: with too small
an arena it may fault or spin, hence one run of the emulator for each size, with a time limit.
Writes arena_size.h, which the app is compiled with: it compares before TFLM sees the arena.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

from absl import app, flags

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
_STEP = 16  # TFLM aligns everything in the arena to this
# Beyond the smallest that runs: for the reader's peace of mind, as no run of the same program with
# the same library needs more. One alignment step each for head and tail.
MARGIN = 2 * _STEP
_LOAD_SECONDS = 20.0
_ANSWER_SECONDS = 300.0


class SizeError(RuntimeError):
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

    def __init__(self, program: pathlib.Path, machine: str):
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
                str(_REPOSITORY / "tflm_app/boards/emulate.sh"),
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
            f"// Made by converters/firmware/size_arena.py from {program} on {machine}; do not edit.",
            "#ifndef EMBBERT_ARENA_SIZE_H_",
            "#define EMBBERT_ARENA_SIZE_H_",
            f"// The smallest arena that loads the model and answers correctly: {size.smallest}",
            f"// bytes, of which arena_used_bytes() counts {size.used}. Margin: {MARGIN} bytes.",
            f"#define MODEL_ARENA_BYTES {size.with_margin}u",
            "#endif  // EMBBERT_ARENA_SIZE_H_",
            "",
        ]
    )


def _size_program(values) -> None:
    program, output = pathlib.Path(values.program), pathlib.Path(values.output)
    size = size_on_target(Trial(program.resolve(), values.machine), values.large)
    text = header(size, program.parent.parent.name, values.machine)
    temporary = output.with_name(output.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, output)
    print(
        f"arena on {values.machine}: smallest {size.smallest} bytes, used {size.used}, "
        f"with margin {size.with_margin} ({size.trials} trials)"
    )


def _size_on_target(values) -> int:
    command = ["make", "-s", "-C", str(_REPOSITORY / "tflm_app"), "RUNTIME=tflm"]
    command += [f"TARGET={values.target}", f"MODEL={pathlib.Path(values.model).resolve()}"]
    graph = values.graph
    command += [
        f"GRAPH={graph if graph in ('portable', 'fused') else pathlib.Path(graph).resolve()}"
    ]
    for name in ("TFLM_DIR", "TFLM_LIB"):
        if name in os.environ:
            command.append(f"{name}={pathlib.Path(os.environ[name]).resolve()}")
    return subprocess.run([*command, "arena"], check=False).returncode


def _size_on_host(values) -> None:
    if values.graph == "fused":
        raise SizeError("the host's TFLM lacks the fused operators; say --target")
    path = pathlib.Path(values.model if values.graph == "portable" else values.graph)
    if path.is_dir():
        path = path / "model.tflite"
    done = subprocess.run(
        [sys.executable, "-m", "converters.tflm.arena_probe", str(path.resolve())],
        capture_output=True,
        text=True,
        check=False,
        cwd=_REPOSITORY,
    )
    if done.returncode != 0:
        raise SizeError(done.stderr.strip().splitlines()[-1] if done.stderr else "no answer")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print("arena on the host, bytes")
    for key, what in (
        ("head_bytes", "head: activations and scratch"),
        ("tail_bytes", "tail: what TFLM keeps for ever"),
        ("used_bytes", "both"),
        ("smallest_bytes", "smallest that runs"),
    ):
        print(f"{found[key]:10d}  {what}")
    print(json.dumps(found))


def define_flags(values=flags.FLAGS):
    """Defines the flags. Not on import: other commands have flags of the same names."""

    def string(name, default, text):
        flags.DEFINE_string(name, default, text, flag_values=values)

    string("model", None, "Model folder, or a .tflite (host only).")
    string("target", None, "Board of tflm_app; without it: the host.")
    string("graph", "portable", "portable, fused or a .tflite.")
    string("program", None, "Of tflm_app/tflm/tflm.mk: the trial program to bisect with.")
    string("machine", None, "Of tflm.mk: QEMU's name of the board.")
    string("output", None, "Of tflm.mk: the arena_size.h to write.")
    flags.DEFINE_integer(
        "large", 448 * 1024, "Of tflm.mk: an arena that surely suffices.", flag_values=values
    )


def main(argv, values=flags.FLAGS):
    """Command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    if values.program is not None and (values.machine is None or values.output is None):
        raise app.UsageError("--program needs --machine and --output")
    if values.program is None and values.model is None:
        raise app.UsageError("say --model")
    try:
        if values.program is not None:
            _size_program(values)
        elif not pathlib.Path(values.model).exists():
            raise SizeError(f"{values.model}: no such file or folder")
        elif values.target:
            return _size_on_target(values)
        else:
            _size_on_host(values)
    except (SizeError, OSError) as error:
        sys.exit(f"size_arena: {error}")
    return 0


if __name__ == "__main__":
    define_flags()
    app.run(main)
