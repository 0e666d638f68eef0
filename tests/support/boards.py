"""What tflm_app/boards says of a board: how a program for it is compiled, linked and run."""

import dataclasses
import functools
import json
import pathlib
import subprocess

from tests.support.firmware_model import FIRMWARE, make

BOARDS = (
    "mps2-an385",
    "mps2-an386",
    "mps2-an500",
    "mps2-an505",
    "mps3-an547",
    "cortex-m4-64k",
    "cortex-m4-256k",
    "netduinoplus2",
    "microbit",
)


@dataclasses.dataclass(frozen=True)
class Board:
    """A board's machine of QEMU, and what goes into a call of the compiler beside a program."""

    name: str
    machine: str
    cpu: list[str]
    support: list[str]  # include paths, linker scripts, and the board's own sources

    def build(self, program: pathlib.Path, *arguments, flags=("-Os",)) -> None:
        """Compiles and links a program of C files and options."""
        command = ["arm-none-eabi-gcc", "-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
        command += ["-mthumb", *self.cpu, *flags, "-o", program, *arguments, *self.support]
        done = subprocess.run(
            list(map(str, command)), cwd=FIRMWARE, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def run(self, program: pathlib.Path, *words, seconds: int = 120) -> subprocess.CompletedProcess:
        """Runs a program in the emulator with a command of these words."""
        return subprocess.run(
            ["boards/emulate.sh", self.machine, str(seconds), program, *words],
            cwd=FIRMWARE,
            capture_output=True,
            text=True,
            timeout=seconds + 60,
        )


@functools.cache
def board(name: str, **variables) -> Board:
    """The board of that name, or of BOARD_DIR."""
    result = make("board", **(variables or {"TARGET": name}))
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    support = [*said["includes"].split(), *said["link"].split(), *said["sources"].split()]
    return Board(name, said["machine"], said["cpu"].split(), support)
