"""embbert_scan against converters/kernels/selective_scan.py, byte for byte, and its errors."""

import ctypes
import re
import shutil
import struct
import subprocess

import numpy as np
import pytest

from converters.kernels import selective_scan
from tests.support import scan_cases
from tests.support.boards import board
from tests.support.kernel_harness import BOARDS, LIBRARY, ROOT, TESTS

KERNEL = ROOT / "tflm_app/tflm/embbert_scan.c"
FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
FLAGS += [f"-I{LIBRARY / 'include'}", f"-I{LIBRARY / 'src'}", f"-I{KERNEL.parent}"]


def cases():
    """(scan, lengths of its runs)."""
    some = [(scan_cases.realistic(0), (64, 1, 12)), (scan_cases.realistic(1, 20, 96, 4), (20,))]
    some.append((scan_cases.realistic(2, 9, 3, 16, spread=2.5), (9, 2)))
    some.append((scan_cases.realistic(3, 7, 1, 1), (7,)))
    return some + [(scan_cases.extreme(seed), (40,)) for seed in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scan")


def build(target, folder, *extra, compiler="gcc"):
    compiler = compiler if target == "host" else "arm-none-eabi-gcc"
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    files = [KERNEL, TESTS / "scan_test.c"]
    if target == "host":
        files += [BOARDS / "host/platform_host.c", "-D_POSIX_C_SOURCE=200809L"]
    else:
        files += ["-mthumb", *board(target).cpu, *board(target).support]
    program = folder / f"scan_{target}_{compiler}{len(extra)}"
    command = [compiler, *FLAGS, *extra, *map(str, files), "-o", str(program)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT / "tflm_app"
    )
    assert done.returncode == 0, done.stderr
    return program


def run(program, target, some, folder):
    """Instructions and y of each run."""
    data = b""
    for scan, lengths in some:
        options = scan.params.options()
        data += struct.pack("<ii", len(options), len(lengths)) + options
        data += b"".join(tensor.tobytes() for tensor in scan.params.tensors().values())
        for n in lengths:
            data += struct.pack("<i", n)
            data += b"".join(array.tobytes() for array in scan.inputs.rows(n).arrays())
    source, sink = folder / "in.bin", folder / "out.bin"
    source.write_bytes(data)
    sink.unlink(missing_ok=True)
    command = [str(program), str(source), str(sink)]
    if target != "host":
        if shutil.which("qemu-system-arm") is None:
            pytest.skip("qemu-system-arm is not installed")
        command = ["sh", str(BOARDS / "emulate.sh"), target, "120", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    found, results = sink.read_bytes(), []
    for scan, lengths in some:
        for n in lengths:
            size = n * scan.params.channels
            y = np.frombuffer(found, np.int8, size, 4).reshape(n, -1)
            results.append((struct.unpack_from("<I", found)[0], y))
            found = found[4 + size :]
    assert not found
    return results


def check(results, some):
    wanted = [scan.expected(scan.inputs.rows(n)) for scan, lengths in some for n in lengths]
    for number, ((_, y), expected) in enumerate(zip(results, wanted, strict=True)):
        np.testing.assert_array_equal(y, expected, err_msg=f"run {number}")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_on_the_host(folder, compiler):
    some = cases()
    check(run(build("host", folder, compiler=compiler), "host", some, folder), some)


def test_on_the_host_under_sanitizers(folder):
    flags = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    some = cases()
    check(run(build("host", folder, *flags), "host", some, folder), some)


@pytest.mark.parametrize("target", ["mps2-an385", "mps2-an386", "mps3-an547"])
def test_on_boards(folder, target):
    some = cases()
    check(run(build(target, folder), target, some, folder), some)


def test_instructions_of_a_token(folder):
    """MAMBA 2 MB: 64 channels of 6 states. The counts are exact; DSP instructions save most."""
    some = [(scan_cases.realistic(0), (64, 1))]
    counts = {}
    for flag in ("-DEMBBERT_FORCE_DSP", "-DEMBBERT_FORCE_PORTABLE"):
        results = run(build("mps2-an386", folder, flag), "mps2-an386", some, folder)
        (whole, _), (one, _) = results
        counts[flag] = (whole - one) / 63
    dsp, portable = counts.values()
    assert 8000 < dsp <= 10_500 and dsp < 0.5 * portable, counts


class Struct(ctypes.Structure):
    _fields_ = (
        [(f"scalar{i}", ctypes.c_int32) for i in range(11)]
        + [(name, ctypes.c_void_p) for name in ("delta", "decay", "skip")]
    )  # fmt: skip


@pytest.fixture(scope="module")
def library(folder):
    target = folder / "scan.so"
    subprocess.run(["gcc", *FLAGS, "-shared", "-fPIC", KERNEL, "-o", target], check=True)
    return ctypes.CDLL(str(target))


def test_options_that_are_none(library):
    params = scan_cases.realistic(0).params
    good = np.frombuffer(params.options(), np.int32)
    scan = Struct()

    def init(words, size=None):
        buffer = ctypes.create_string_buffer(words.tobytes(), 4 * len(words) + 8)
        size = 4 * len(words) if size is None else size
        return library.embbert_scan_init(ctypes.byref(scan), buffer, ctypes.c_size_t(size))

    assert init(good) == 0
    for size in (0, 3, 8, len(params.options()) - 4, len(params.options()) + 4):
        assert init(good, size) == 2, size
    wrong = [0, 1, 513, 17, 128, -129, 128, 200, 31, 24, 23, 31, -1]
    for place, value in enumerate(wrong):
        words = good.copy()
        words[place] = value
        assert init(words) == 2, place
    assert library.embbert_scan_init(None, good.ctypes.data_as(ctypes.c_void_p), 4) == 1
    assert library.embbert_scan_init(ctypes.byref(scan), None, 4) == 1


def test_arguments_that_are_none(library):
    case = scan_cases.realistic(0, 3, 4, 2)
    options = np.frombuffer(case.params.options(), np.int32)
    scan = Struct()

    def pointer(array):
        return None if array is None else array.ctypes.data_as(ctypes.c_void_p)

    size = ctypes.c_size_t(4 * len(options))
    assert library.embbert_scan_init(ctypes.byref(scan), pointer(options), size) == 0
    scan.decay, scan.skip = (pointer(t).value for t in case.params.tensors().values())
    scratch = np.zeros(4 * (4 + 2) * 2 // 8 + 1, np.int64)
    y = np.full((3, 4), 77, np.int8)
    given = case.inputs.arrays()

    def call(arrays=given, n=3, out=y, memory=scratch, memory_size=48):
        return library.embbert_scan(
            ctypes.byref(scan), *map(pointer, arrays), n, pointer(out), pointer(memory),
            ctypes.c_size_t(memory_size),
        )  # fmt: skip

    for place in range(4):
        arrays = list(case.inputs.arrays())
        arrays[place] = None
        assert call(arrays) == 1
    assert call(out=None) == call(memory=None) == call(memory=scratch.view(np.int8)[1:]) == 1
    assert call(n=0) == call(n=1025) == 3
    assert call(memory_size=47) == 5
    assert (y == 77).all()
    assert call() == 0
    np.testing.assert_array_equal(y, case.expected(case.inputs))
    # y may take u's place.
    u = case.inputs.u.copy()
    assert call([u, *case.inputs.arrays()[1:]], out=u) == 0
    np.testing.assert_array_equal(u, y)
    for name in ("decay", "skip"):
        kept = getattr(scan, name)
        setattr(scan, name, kept + 1)
        assert call() == 1
        setattr(scan, name, kept)


def test_table_is_that_of_the_reference():
    text = re.search(r"decay_table\[128\] = \{(.*?)\n\};", KERNEL.read_text(), re.DOTALL)[1]
    found = [int(number) for number in re.findall(r"-?\d+", text)]
    np.testing.assert_array_equal(np.reshape(found, (-1, 2)), selective_scan.DECAY_TABLE)
