"""Exports for TensorFlow Lite Micro, which TFLM_DIR and TFLM_LIB bring along."""

import os
import pathlib
import re
import subprocess

import pytest

import converters
from embbert_tf import errors
from tests.support.exports import shell
from tests.support.firmware_model import ROOT
from tests.support.runs import run_command

TFLM = [os.environ.get(name, "") for name in ("TFLM_DIR", "TFLM_LIB")]
NEEDS_TFLM = pytest.mark.skipif(
    not all(TFLM), reason="TFLM for Cortex-M is not at hand: TFLM_DIR=... TFLM_LIB=..."
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The zoo's model in plain C, on TFLM."""
    path = tmp_path_factory.mktemp("tflm") / "out"
    options = converters.ExportOptions(name="snips", runtime="tflm")
    return converters.export_firmware(ROOT / "zoo/snips", path, options)


def commands_of(readme, **environment):
    """The README's block of commands, which run one after another."""
    (block,) = re.findall(r"^```sh\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL)
    settings = {"TFLM_DIR": TFLM[0], "TFLM_LIB": TFLM[1], "CPU": cpu(), **environment}
    return "set -e\n" + "".join(f"{name}='{value}'\n" for name, value in settings.items()) + block


def cpu():
    """Flags of a Cortex-M4 with the library's calling convention."""
    listing = subprocess.run(
        ["arm-none-eabi-readelf", "-A", TFLM[1]], capture_output=True, text=True, check=True
    ).stdout
    hard = "Tag_ABI_VFP_args" in listing
    return "-mcpu=cortex-m4 -mthumb" + (" -mfloat-abi=hard -mfpu=auto" if hard else "")


@NEEDS_TFLM
def test_the_commands_of_the_readme_answer(exported, snips):
    """The label that the kernels' firmware gives, in the arena that the header says."""
    assert shell(commands_of(exported.path / "README.md"), exported.path).endswith(
        snips.outputs[0] + "\n"
    )


@NEEDS_TFLM
def test_cmake_builds_two_exports_of_models_in_one_program(snips, tmp_path):
    for name, model in (("snips", "snips"), ("sts", "stsb")):
        chosen = converters.ExportOptions(name=name, runtime="tflm", ecosystem="cmake")
        converters.export_firmware(ROOT / "zoo" / model, tmp_path / name, chosen)
    printed = shell(commands_of(tmp_path / "snips/README.md"), tmp_path / "snips")
    assert printed.endswith(snips.outputs[0] + "\n")
    both = tmp_path / "both"
    both.mkdir()
    (both / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(both C CXX)\n"
        "add_subdirectory(../snips snips)\nadd_subdirectory(../sts sts)\n"
        "add_executable(both main.c ../snips/example/qemu_vectors.c)\n"
        "target_link_options(both PRIVATE --specs=rdimon.specs "
        "-Wl,-u,embbert_vectors,--section-start=.vectors=0)\n"
        "target_link_libraries(both PRIVATE snips::model sts::model)\n"
    )
    (both / "main.c").write_text(
        '#include <stdio.h>\n#include "snips_model.h"\n#include "sts_model.h"\n'
        "static _Alignas(16) uint8_t first[SNIPS_MEMORY_BYTES], second[STS_MEMORY_BYTES];\n"
        "int main(void) {\n  static embbert_engine_t snips, sts;\n  embbert_result_t result;\n"
        "  puts(embbert_engine_message(snips_open(&snips, first, sizeof(first) - 1)));\n"
        "  if (snips.memory_needed != SNIPS_MEMORY_BYTES) return 1;\n"
        "  int status = snips_open(&snips, first, sizeof(first));\n"
        "  status |= sts_open(&sts, second, sizeof(second));\n"
        '  status |= embbert_engine_classify(&sts, "a", 1, "a", 1, &result);\n'
        '  status |= embbert_engine_classify(&snips, "play jazz", 9, NULL, 0, &result);\n'
        "  puts(result.name);\n  return status;\n}\n"
    )
    build = commands_of(tmp_path / "snips/README.md").replace(
        "../snips_m4/snips_example", "../m4/both"
    )
    build = build.replace("../snips_m4", "../m4").replace("cmake/cortex", "../snips/cmake/cortex")
    printed = shell(build, both)
    assert printed.endswith("the memory is too small\nPlayMusic\n")


def test_the_export_holds_operators_engine_and_arena(exported):
    names = {pathlib.Path(name).name for name in exported.files}
    assert {"embbert_ops.cc", "embbert_ops.h", "embbert_tflm.cc", "embbert_tflm.h"} <= names
    header = (exported.path / "snips_model.h").read_text()
    arenas = dict(re.findall(r"defined\((\w+)\)\n#define SNIPS_ARENA_BYTES (\d+)u", header))
    assert list(arenas) == ["EMBBERT_USE_MVE", "EMBBERT_USE_DSP", "EMBBERT_USE_PORTABLE"]
    # docs/tflm.md: 13 kB on a Cortex-M4.
    assert 13_000 < int(arenas["EMBBERT_USE_DSP"]) < 13_500
    assert exported.figures is None and "was not measured" in header
    # An inference on TFLM cannot be interrupted.
    assert "progress" not in (exported.path / "README.md").read_text()


def test_what_does_not_go_together_is_explained(tmp_path):
    with pytest.raises(errors.OptionError, match="tflm does not go with the ecosystem arduino"):
        converters.ExportOptions(runtime="tflm", ecosystem="arduino")
    done = run_command(
        "converters.export",
        *("--model=zoo/snips", "--runtime=tflm", "--max_tokens=8", f"--output={tmp_path / 'out'}"),
    )
    assert done.returncode == 1
    assert "convert the run with --max_length=8" in done.stderr
    assert not (tmp_path / "out").exists()
