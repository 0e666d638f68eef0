"""Flash, RAM, stack and instructions of an exported model, measured on the emulated Cortex-M4.

A small program is linked twice, with calls of the engine and without. What the first is larger by
is what the model costs a program: the library as far as it is used, what that draws from the C
library, and the model. The emulator then counts instructions, and how deep the stack went.
"""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from converters.exports.folder import ExportError
from converters.firmware import sources

BOARD, PROCESSOR = "mps2-an386", "Cortex-M4"
_TOOLS = {"arm-none-eabi-gcc": "gcc-arm-none-eabi", "qemu-system-arm": "qemu-system-arm"}
_COMPILER = "arm-none-eabi-gcc"
_CPU = ("-mcpu=cortex-m4", "-mfloat-abi=soft", "-mthumb")
_FLAGS = ("-std=c11", "-O2", "-ffunction-sections", "-fdata-sections")
_SUPPORT = (
    "boards/common/*.c",
    "boards/drivers/uart_cmsdk.c",
    "boards/drivers/counter_fpgaio.c",
    "app/print.c",
)
_INCLUDES = ("boards", f"boards/{BOARD}", "boards/common", "app")
_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a model costs a program, in bytes, and its work, in instructions.

    Attributes:
        compiler: Name, version and optimization.
        flash: All that a program grows by in flash, the model included.
        model: The model's part of it.
        ram: All that a program grows by in RAM, without the stack: memory and engine.
        stack: The deepest stack of a program that only opens and classifies.
        open: Instructions of opening the model.
        infer: {number of tokens: instructions of an inference}.
    """

    compiler: str
    flash: int
    model: int
    ram: int
    stack: int
    open: int
    infer: dict[int, int]


def missing() -> str:
    """Returns which of the tools is missing and how to install it, or an empty string."""
    lacking = {tool: package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    if not lacking:
        return ""
    return f"{' and '.join(lacking)} missing (apt-get install {' '.join(lacking.values())})"


def measure(
    contents: Mapping[str, bytes], program: str, compiled: Sequence[str], includes: Sequence[str]
) -> Figures:
    """Measures.

    Args:
        contents: The export's files, by their path in it.
        program: The C of the program; with EMPTY defined it never calls the engine.
        compiled: Paths of the files to compile with it.
        includes: Folders of the export's headers.

    Raises:
        ExportError: The program cannot be built or run.
    """
    firmware = sources.firmware()
    with tempfile.TemporaryDirectory(prefix="embbert-measure-") as temporary:
        folder = pathlib.Path(temporary)
        for name, data in {**contents, "measure.c": program.encode()}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        support = [path for pattern in _SUPPORT for path in sorted(firmware.glob(pattern))]
        command = [_COMPILER, *_CPU, *_FLAGS, *(f"-I{folder / name}" for name in includes)]
        command += [f"-I{firmware / name}" for name in _INCLUDES]
        objects = folder / "objects"
        objects.mkdir()
        _run([*command, "-c", *support, *(folder / name for name in compiled)], objects)
        link = [*command, folder / "measure.c", *sorted(objects.glob("*.o"))]
        link += ["-nostartfiles", "--specs=nano.specs", "-Wl,--gc-sections"]
        link += [f"-Wl,-T,{firmware / 'boards' / BOARD / 'memory.ld'}"]
        link += [f"-Wl,-T,{firmware / 'boards/common/sections.ld'}"]
        full, empty = folder / "full.elf", folder / "empty.elf"
        _run([*link, "-o", full], folder)
        _run([*link, "-DEMPTY", "-o", empty], folder)
        flash, ram = (a - b for a, b in zip(_sizes(full), _sizes(empty), strict=True))
        emulator = [firmware / "boards/emulate.sh", BOARD, _SECONDS, full]
        said = json.loads(_run(["sh", *emulator], folder).strip().splitlines()[-1])
        version = _run([_COMPILER, "-dumpfullversion"], folder).strip()
    return Figures(
        compiler=f"GCC {version} -O2",
        flash=flash,
        model=said["model"],
        ram=ram,
        stack=said["stack"],
        open=said["open"],
        infer={row["tokens"]: row["instructions"] for row in said["infer"]},
    )


def _sizes(program: pathlib.Path) -> tuple[int, int]:
    """Returns bytes in flash and in RAM, without the stack that the board's linker script says."""
    listing = _run([_COMPILER.replace("gcc", "size"), "-A", program], program.parent)
    size = {name: int(count) for name, count in re.findall(r"^(\.\w+)\s+(\d+)", listing, re.M)}
    data = size.get(".data", 0)
    return size[".text"] + size.get(".model", 0) + data, size[".bss"] + data


def _run(command: Sequence[object], folder: pathlib.Path) -> str:
    words = list(map(str, command))
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        said = f"{done.stdout}\n{done.stderr}".strip()
        raise ExportError(
            f"the export cannot be measured; `{words[0]}` says:\n{said}\n"
            "give --nomeasure to export without figures"
        )
    return done.stdout
