"""The scratch of this project's operators against the macro of the C header."""

import itertools
import re
import shutil
import subprocess

import pytest

from converters.tflm import custom_memory
from tests.support import tflite_cases

HEADERS = tflite_cases.ROOT / "tflm_app/embbert/include"
DEFINES = {
    "none": ["-DEMBBERT_FORCE_PORTABLE"],
    "dsp": ["-D__ARM_FEATURE_DSP=1", "-D__ARM_FEATURE_SIMD32=1"],
    "mve": ["-D__ARM_FEATURE_MVE=1"],
}
SHAPES = list(itertools.product((16, 32, 128), (1, 2), (3, 5, 32), (1, 3, 4, 5, 47, 256)))


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="no arm-none-eabi-gcc")
def test_data_of_the_operators_has_the_size_that_it_has_on_a_board(tmp_path):
    folder = tflite_cases.ROOT / "tflm_app/tflm"
    names = ("embbert_ops.cc", "embbert_scan_op.cc")
    source = "\n".join((folder / name).read_text() for name in names)
    structs = dict(re.findall(r"^struct (\w+Data) (\{.*?^\};)", source, re.MULTILINE | re.DOTALL))
    assert set(structs) == set(custom_memory.DATA)
    lines = ["#include <stddef.h>", '#include "embbert_scan.h"']
    for name, size in custom_memory.DATA.items():
        lines += [f"struct {name} {structs[name]}"]
        lines += [f'_Static_assert(sizeof(struct {name}) == {size}, "{name}");']
    (tmp_path / "sizes.c").write_text("\n".join(lines) + "\n")
    command = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-std=c11", "-fsyntax-only"]
    done = subprocess.run(
        [*command, f"-I{HEADERS}", f"-I{folder}", tmp_path / "sizes.c"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@pytest.mark.parametrize("extension", DEFINES)
def test_scratch_is_that_of_the_header(extension, tmp_path):
    sizes = ",".join(f"EMBBERT_BLOCK_SCRATCH_BYTES({d}u,{e}u,{k}u,{n}u)" for d, e, k, n in SHAPES)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "embbert_kernels.h"\n'
        f"static const unsigned sizes[] = {{{sizes}}};\n"
        "int main(void) {\n"
        '  for (size_t i = 0; i < sizeof sizes / 4; i++) printf("%u\\n", sizes[i]);\n}\n'
    )
    program = tmp_path / "main"
    subprocess.run(
        ["gcc", f"-I{HEADERS}", *DEFINES[extension], "-o", program, tmp_path / "main.c"], check=True
    )
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    wanted = [int(line) for line in printed.split()]
    assert [custom_memory.block_scratch(*shape, extension) for shape in SHAPES] == wanted
