"""A small model as a program for an emulated board."""

import dataclasses
import json
import pathlib
import re
import subprocess
from collections.abc import Sequence

import numpy as np

from converters.benchmarks.small_models import embeddings, tfidf
from converters.firmware import sources
from embbert_tf import errors
from embbert_tf.data import files

_SECONDS = 600
_TYPES = {
    np.dtype(np.uint32): "uint32_t",
    np.dtype(np.int32): "int32_t",
    np.dtype(np.uint8): "uint8_t",
    np.dtype(np.int8): "int8_t",
}
Int8Model = tfidf.Int8TfIdf | embeddings.Int8MeanEmbeddings


class SmallModelError(errors.EmbBertError):
    """A program cannot be built, or does not run; the message says why."""


def _c_source(model: Int8Model) -> str:
    lines = ['#include "small_model.h"']
    for name, values in model.arrays().items():
        numbers = ",".join(map(str, values.ravel().tolist()))
        kind = _TYPES[values.dtype]
        lines.append(f"const {kind} small_model_{name}[{values.size}] = {{{numbers}}};")
    return "\n".join(lines) + "\n"


@dataclasses.dataclass(frozen=True)
class Program:
    """A model's program.

    Attributes:
        path: The ELF file.
        machine: QEMU's name of the board.
        flash_bytes: Of the whole program, the model's tables included.
        ram_bytes: Of the model: what it writes to, beside the stack.
        labels: Names of its labels.
    """

    path: pathlib.Path
    machine: str
    flash_bytes: int
    ram_bytes: int
    labels: tuple[str, ...]

    def run(self, texts: Sequence[str]) -> tuple[list[str], list[int]]:
        """Returns the answer to each text, and the instructions from its bytes to that.

        Args:
            texts: A line break in one is read as a blank, which is no different to the model.

        Raises:
            SmallModelError: The program does not run through.
        """
        lines = self.path.with_suffix(".txt")
        files.write_bytes(lines, "".join(_one_line(text) for text in texts).encode())
        done = subprocess.run(
            [
                *(str(sources.firmware() / "boards/emulate.sh"), self.machine, str(_SECONDS)),
                *(str(self.path), "small_model", str(lines)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        answers = [line.split() for line in done.stdout.splitlines()]
        if done.returncode or len(answers) != len(texts):
            raise SmallModelError(f"{self.path} under QEMU: {done.stderr}{done.stdout[-500:]}")
        return [self.labels[int(label)] for label, _ in answers], [int(n) for _, n in answers]


def _one_line(text: str) -> str:
    return text.replace("\n", " ") + "\n"


def build(model: Int8Model, board: str, folder: pathlib.Path) -> Program:
    """Builds a model's program.

    Args:
        model: The model.
        board: Of tflm_app/boards, with instructions to count.
        folder: Where the program goes.

    Raises:
        SmallModelError: It does not compile or link; a tool is missing.
    """
    app = sources.firmware()
    settings = json.loads(_call(["make", "-s", "-C", str(app), f"TARGET={board}", "board"], app))
    if not settings["machine"]:
        raise SmallModelError(f"--board={board}: QEMU has no machine for it; mps2-an386 has one")
    at = files.make_folder(folder).resolve()
    files.write_text(at / "model.c", _c_source(model))
    sizes = {"FEATURES": len(model.vocabulary), "LABELS": len(model.labels), "WIDTH": model.width}
    flags = [*settings["cpu"].split(), "-mthumb", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
    flags += ["-ffunction-sections", "-fdata-sections", *settings["includes"].split()]
    flags += [f"-DSMALL_MODEL_{name}={value}" for name, value in sizes.items()]
    kind = "tfidf" if isinstance(model, tfidf.Int8TfIdf) else "embeddings"
    parts = [f"small_models/{name}.c" for name in ("features", kind)]
    rest = ["small_models/main.c", "app/print.c", "app/bare_main.c", *settings["sources"].split()]
    objects = []
    for source in [*parts, *rest, str(at / "model.c")]:
        objects.append(str(at / (source.replace("/", "_") + ".o")))
        extra = [f"-I{app}/small_models"]
        _call(["arm-none-eabi-gcc", *flags, *extra, "-c", source, "-o", objects[-1]], app)
    program = at / "small_model.elf"
    _call(
        [
            *("arm-none-eabi-gcc", *settings["cpu"].split(), "-mthumb", *settings["link"].split()),
            *("-Wl,--gc-sections", "-o", str(program), *objects),
        ],
        app,
    )
    flash = _sections(program, app, (".text", ".model", ".data"))
    # What main.c holds of its input is the program's; the features are the model's.
    ram = sum(_variable(program, app, name) for name in ("features", "sums"))
    return Program(program, settings["machine"], flash, ram, model.labels)


def _variable(program: pathlib.Path, folder: pathlib.Path, name: str) -> int:
    """Returns the bytes of a static variable."""
    told = _call(["arm-none-eabi-nm", "-S", str(program)], folder)
    found = re.search(rf"^\S+ (\S+) b {name}(?:\.\d+)?$", told, re.M)
    return int(found[1], 16) if found else 0


def _sections(program: pathlib.Path, folder: pathlib.Path, names: Sequence[str]) -> int:
    told = _call(["arm-none-eabi-size", "-A", str(program)], folder)
    sizes = dict(re.findall(r"^(\.\S+) +(\d+)", told, re.M))
    return sum(int(sizes.get(name, 0)) for name in names)


def _call(command: list[str], folder: pathlib.Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SmallModelError(
            f"{command[0]} cannot be started ({error.strerror}); as root: apt-get install make "
            "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
        ) from error
    if done.returncode:
        raise SmallModelError(f"{' '.join(command)}:\n{done.stderr.strip()[-2000:]}")
    return done.stdout
