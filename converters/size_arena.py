r"""Finds the smallest tensor arena of a model, on the host or on a board.

  python -m converters.size_arena --model=build/snips/model
  python -m converters.size_arena --model=build/snips/model --target=mps2-an386 --graph=fused

On the host: head and tail as TFLM's recording allocator counts them, and the smallest arena with
which the interpreter loads the model and answers as it does with a large one.

On a target (TFLM_DIR and TFLM_LIB in the environment, docs/tflm.md): by bisection in the emulator,
with the program that tflm_app builds for the purpose. TFLM's own checks fall short: with too small
an arena it may fault or spin, hence one run of the emulator for each size, with a time limit.
Writes arena_size.h, which the app is compiled with: it compares before TFLM sees the arena.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
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
            f"// Made by converters/size_arena.py from {program} on {machine}; do not edit.",
            "#ifndef EMBBERT_ARENA_SIZE_H_",
            "#define EMBBERT_ARENA_SIZE_H_",
            f"// The smallest arena that loads the model and answers correctly: {size.smallest}",
            f"// bytes, of which arena_used_bytes() counts {size.used}. Margin: {MARGIN} bytes.",
            f"#define MODEL_ARENA_BYTES {size.with_margin}u",
            "#endif  // EMBBERT_ARENA_SIZE_H_",
            "",
        ]
    )


def _size_program(arguments) -> None:
    large = arguments.large
    trial = Trial(arguments.program.resolve(), arguments.machine)
    size = size_on_target(trial, large)
    text = header(size, arguments.program.parent.parent.name, arguments.machine)
    temporary = arguments.output.with_name(arguments.output.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, arguments.output)
    print(
        f"arena on {arguments.machine}: smallest {size.smallest} bytes, used {size.used}, "
        f"with margin {size.with_margin} ({size.trials} trials)"
    )


def _size_on_target(arguments) -> int:
    command = ["make", "-s", "-C", str(_REPOSITORY / "tflm_app"), "RUNTIME=tflm"]
    command += [f"TARGET={arguments.target}", f"MODEL={arguments.model.resolve()}"]
    graph = arguments.graph
    command += [
        f"GRAPH={graph if graph in ('portable', 'fused') else pathlib.Path(graph).resolve()}"
    ]
    for name in ("TFLM_DIR", "TFLM_LIB"):
        if name in os.environ:
            command.append(f"{name}={pathlib.Path(os.environ[name]).resolve()}")
    return subprocess.run([*command, "arena"], check=False).returncode


def _size_on_host(arguments) -> None:
    path = arguments.model if arguments.graph == "portable" else pathlib.Path(arguments.graph)
    if arguments.graph == "fused":
        raise SizeError("the host's TFLM lacks the fused operators; say --target")
    if path.is_dir():
        path = path / "model.tflite"
    done = subprocess.run(
        [sys.executable, "-m", "converters.tflm_probe", str(path)],
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


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, help="model folder, or a .tflite (host only)")
    parser.add_argument("--target", help="board of tflm_app; without it: the host")
    parser.add_argument("--graph", default="portable", help="portable, fused or a .tflite")
    parser.add_argument("--program", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--machine", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--large", type=int, default=448 * 1024, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        if arguments.program is not None:
            _size_program(arguments)
        elif arguments.model is None:
            parser.error("say --model")
        elif not arguments.model.exists():
            raise SizeError(f"{arguments.model}: no such file or folder")
        elif arguments.target:
            return _size_on_target(arguments)
        else:
            _size_on_host(arguments)
    except (SizeError, OSError) as error:
        print(f"size_arena: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
