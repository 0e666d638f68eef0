"""What Arm's compiler Vela says of a `.tflite`: cycles on an Ethos-U, and what the CPU is left.

Vela is no dependency: `pip install "embbert-tflm[npu]"` brings it (PyPI: ethos-u-vela).
"""

import csv
import dataclasses
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from converters.tflite import graph as graph_lib
from converters.tflite import reader
from embbert_tf import errors

DEFAULT = ("ethos-u55-128", "ethos-u85-256")
_SECONDS = 120.0
_ETHOS = "ethos-u"  # the custom operator in which Vela puts what the NPU computes


class VelaError(errors.EmbBertError):
    """Vela cannot be run, or does not compile the file."""


@dataclasses.dataclass(frozen=True)
class Compiled:
    """Vela's result.

    Attributes:
        accelerator: As Vela names it, such as "ethos-u55-128".
        cycles: Its estimate for one inference; what the CPU computes is not in it.
        clock: Hz of the NPU in Vela's system configuration.
        system: Vela's system configuration and memory mode.
        on_cpu: Operators that are left to the CPU, in their order.
    """

    accelerator: str
    cycles: int
    clock: float
    system: str
    on_cpu: tuple[str, ...]

    def line(self) -> str:
        """Returns the result as a line for people."""
        counts = {kind: self.on_cpu.count(kind) for kind in dict.fromkeys(self.on_cpu)}
        left = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"
        return (
            f"{self.accelerator}: {self.cycles:,} cycles, {1000 * self.cycles / self.clock:.2f} ms "
            f"at {self.clock / 1e6:.0f} MHz ({self.system}); left to the CPU: {left}"
        )


def program() -> str | None:
    """Returns the path of `vela`, of this Python's environment or on PATH; None without one."""
    own = pathlib.Path(sys.executable).with_name("vela")
    return str(own) if own.is_file() else shutil.which("vela")


def compile_for(data: bytes, accelerator: str) -> Compiled:
    """Compiles a `.tflite` with Vela, in its default system configuration.

    Args:
        data: The file.
        accelerator: Vela's name of an NPU.

    Raises:
        VelaError: There is no Vela, or it does not compile the file.
    """
    vela = program()
    if vela is None:
        raise VelaError('Vela is not installed: pip install "embbert-tflm[npu]"')
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source = folder / "model.tflite"
        source.write_bytes(data)
        command = [
            vela,
            f"--accelerator-config={accelerator}",
            f"--output-dir={folder}",
            str(source),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise VelaError(f"Vela takes more than {_SECONDS:.0f} seconds") from error
        compiled = folder / "model_vela.tflite"
        tables = list(folder.glob("model_summary_*.csv"))
        if done.returncode or not compiled.is_file() or not tables:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise VelaError(f"Vela does not compile the file: {said[-1] if said else 'no reason'}")
        with open(tables[0], newline="", encoding="utf-8") as file:
            row = next(csv.DictReader(file))
        graphs = reader.read_all(compiled.read_bytes())
    return Compiled(
        accelerator,
        int(float(row["cycles_total"])),
        float(row["core_clock"]),
        f"{row['system_config']}, {row['memory_mode']}",
        tuple(
            op.custom_code if op.kind == "CUSTOM" else op.kind
            for graph in graphs
            for op in graph.ops
            if op.custom_code != _ETHOS
        ),
    )


def results(data: bytes, asked: str | None) -> tuple[list[Compiled], list[str]]:
    """Compiles for the accelerator that is asked for; where Vela is installed, for `DEFAULT` else.

    Returns:
        What Vela made, and what it failed at, in lines.
    """
    accelerators: Sequence[str] = [asked] if asked else (DEFAULT if program() else ())
    made, failed = [], []
    for accelerator in accelerators:
        try:
            made.append(compile_for(data, accelerator))
        except (VelaError, graph_lib.FlatbufferError) as error:
            failed.append(f"{accelerator}: {error}")
    return made, failed


def lines(made: Sequence[Compiled], failed: Sequence[str]) -> list[str]:
    """Returns the report's section on NPUs, nothing where there is nothing to say."""
    if not made and not failed:
        return []
    return ["", "Ethos-U, as Vela estimates:", *(one.line() for one in made), *failed]


def as_json(made: Sequence[Compiled], failed: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the same as what JSON can hold."""
    return [*map(dataclasses.asdict, made), *({"error": text} for text in failed)]
