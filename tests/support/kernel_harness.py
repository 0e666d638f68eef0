"""Builds the kernels of tflm_app/embbert for a target, runs models, reads the results back."""

import dataclasses
import pathlib
import re
import shutil
import struct
import subprocess

import numpy as np
import pytest

from converters.kernels import params as params_lib
from converters.kernels.params import ModelParams
from converters.kernels.reference import Reference
from tests.support.boards import board

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "tflm_app" / "embbert"
KERNELS = LIBRARY / "src" / "kernels"
TESTS = ROOT / "tflm_app" / "tests"
BOARDS = ROOT / "tflm_app" / "boards"

STEPS = ("embed", "norm", "query", "scores", "softmax", "context", "conv", "project", "head")

# board: the processor's flags for GCC.
BOARD_CFLAGS = {
    "mps2-an386": "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16",
    "mps2-an500": "-mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-d16",
    "mps3-an547": "-mcpu=cortex-m55 -mthumb -mfloat-abi=hard",
}

TIMEOUT_S = 900


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and inputs to run it on: (ids, segments) pairs; segments None stands for all 1."""

    params: ModelParams
    runs: list
    max_n: int


def sources() -> list[pathlib.Path]:
    """The C files of the kernels."""
    return sorted(KERNELS.glob("*.c"))


def cflags() -> list[str]:
    """The library's own flags for its kernels, and every warning an error."""
    text = (LIBRARY / "embbert.mk").read_text(encoding="utf-8")
    match = re.search(r"^EMBBERT_KERNELS_CFLAGS\s*:=\s*(.*)$", text, re.MULTILINE)
    assert match, "embbert.mk has no EMBBERT_KERNELS_CFLAGS"
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
    return ["-std=c11", *warnings, *match.group(1).split(), f"-I{LIBRARY / 'include'}"]


def build(target: str, folder: pathlib.Path, extra: tuple[str, ...] = (), compiler=None):
    """Compiles kernels_test for "host" or a board and returns its path; skips without compiler."""
    compiler = compiler or ("gcc" if target == "host" else "arm-none-eabi-gcc")
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    files = [*sources(), TESTS / "kernels_test.c"]
    flags = cflags()
    if target == "host":
        files.append(BOARDS / "host" / "platform_host.c")
        flags = [*flags, "-D_POSIX_C_SOURCE=200809L"]
    else:
        flags = [*flags, *BOARD_CFLAGS[target].split(), *board(target).support]
    tag = "".join(c if c.isalnum() else "_" for c in "".join(extra))
    program = folder / f"kernels_test_{target}_{compiler}{tag}"
    command = [compiler, *flags, *extra, *map(str, files), "-o", str(program)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT / "tflm_app"
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return program


def _chunk(data: bytes) -> bytes:
    return struct.pack("<i", len(data)) + data


def _part(part) -> bytes:
    tensors = part.tensors().values()
    return _chunk(part.options()) + b"".join(_chunk(np.asarray(t).tobytes()) for t in tensors)


def encode(cases: list[Case]) -> bytes:
    """The input file of kernels_test.c."""
    parts = []
    for case in cases:
        params = case.params
        parts.append(struct.pack("<ii", len(params.blocks), case.max_n))
        parts += [_part(p) for p in (params.embed, *params.blocks, params.head)]
        for ids, segments in case.runs:
            parts.append(_chunk(np.asarray(ids, "<u2").tobytes()))
            parts.append(_chunk(b"" if segments is None else np.asarray(segments, "u1").tobytes()))
        parts.append(_chunk(b""))
    return b"".join(parts)


@dataclasses.dataclass
class Result:
    """What one run gave: status, instructions, steps {name: instructions}, tensors {name: int8}."""

    status: int
    instructions: int
    steps: dict
    tensors: dict


class _Reader:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.data), "the program's output ends early"
        self.at += count
        return self.data[self.at - count : self.at]

    def word(self) -> int:
        return struct.unpack("<I", self.take(4))[0]

    def int8(self, *shape) -> np.ndarray:
        return np.frombuffer(self.take(int(np.prod(shape))), np.int8).reshape(shape)


def run(program, target: str, cases: list[Case], folder: pathlib.Path, profile: bool = False):
    """Runs a built program.

    Returns:
      implementation ("portable", "dsp" or "mve"), bytes of scratch per case, Results per case.
    """
    source, sink = folder / "kernels_in.bin", folder / "kernels_out.bin"
    source.write_bytes(encode(cases))
    sink.unlink(missing_ok=True)
    if target == "host":
        command = [str(program), str(source), str(sink)]
    else:
        if shutil.which("qemu-system-arm") is None:
            pytest.skip("qemu-system-arm is not installed")
        emulate = str(BOARDS / "emulate.sh")
        command = ["sh", emulate, target, str(TIMEOUT_S), str(program), str(source), str(sink)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S + 30
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    reader = _Reader(sink.read_bytes())
    implementation = reader.take(8).split(b"\0")[0].decode()
    scratch, results = [], []
    for case in cases:
        params = case.params
        d, labels = params.embed.hidden, params.head.labels
        scratch.append(reader.word())
        results.append([])
        for ids, _ in case.runs:
            n = len(ids)
            status, instructions = reader.word(), reader.word()
            tensors = {"logits": reader.int8(labels)}
            steps = {name: reader.word() for name in STEPS} if profile else {}
            tensors["x0"] = reader.int8(n, d)
            for layer in range(len(params.blocks)):
                rows = 1 if layer == len(params.blocks) - 1 else n
                tensors[f"xhat{layer}"] = reader.int8(n, d)
                tensors[f"x{layer + 1}"] = reader.int8(rows, d)
            tensors["logits by steps"] = reader.int8(labels)
            results[-1].append(Result(status, instructions, steps, tensors))
    assert reader.at == len(reader.data), "the program wrote more than expected"
    return implementation, scratch, results


def expected(reference: Reference, ids, segments) -> dict:
    """The same tensors from the NumPy reference."""
    tensors = {}
    x = reference.embed(ids, segments)
    tensors["x0"] = x
    last = len(reference.params.blocks) - 1
    for layer in range(last + 1):
        taps = {}
        x = reference.block(layer, x, 1 if layer == last else None, taps.__setitem__)
        tensors[f"xhat{layer}"], tensors[f"x{layer + 1}"] = taps["xhat"], x
    tensors["logits"] = tensors["logits by steps"] = reference.head(x[0])
    return tensors


def check(cases: list[Case], results, where: str) -> None:
    """Every tensor equal to the reference's, or AssertionError with the first differing index."""
    for number, (case, runs) in enumerate(zip(cases, results, strict=True)):
        reference = Reference(case.params)
        for (ids, segments), result in zip(case.runs, runs, strict=True):
            assert result.status == 0, f"{where}: case {number}, n={len(ids)}: {result.status}"
            want = expected(reference, ids, segments)
            for name in sorted(want, key=list(want).index):
                got = result.tensors[name]
                differing = np.argwhere(got != want[name])
                if len(differing):
                    at = tuple(int(i) for i in differing[0])
                    raise AssertionError(
                        f"{where}: case {number}, n={len(ids)}, {name}{list(at)}: {got[at]}, "
                        f"not {want[name][at]}; {len(differing)} of {got.size} differ"
                    )


def params_of(model) -> ModelParams:
    """Shorthand for tests."""
    return params_lib.model_params(model)
