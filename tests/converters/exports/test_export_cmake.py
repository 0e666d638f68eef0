"""CMake: the host, a Cortex-M4 in the emulator, a package that another project finds."""

import shutil

import pytest

from tests.support.exports import QEMU, check_sizes, commands, export, kind, shell

pytestmark = pytest.mark.skipif(
    shutil.which("cmake") is None, reason="cmake is missing; apt-get install cmake"
)

CONSUMER = """cmake_minimum_required(VERSION 3.16)
project(consumer C)
if(SUBDIRECTORIES)
  add_subdirectory(../out ../out)
  add_subdirectory(../other ../other)
else()
  find_package(snips 0.1 REQUIRED)
  find_package(Other 0.1 REQUIRED)
endif()
add_executable(consumer consumer.c)
target_link_libraries(consumer PRIVATE snips::model Other::model)
"""
# As a project of the user's, with the example as its program.
FOR_M4 = """cmake_minimum_required(VERSION 3.16)
project(program C)
find_package(snips 0.1 REQUIRED)
add_executable(program ../out/example/main.c ../out/example/qemu_vectors.c)
target_link_libraries(program PRIVATE snips::model)
target_link_options(
  program PRIVATE --specs=rdimon.specs -Wl,-u,embbert_vectors,--section-start=.vectors=0)
"""
CONSUMER_C = """#include <stdio.h>
#include "Other_model.h"
#include "snips_model.h"
static _Alignas(8) uint8_t first[SNIPS_MEMORY_BYTES], second[OTHER_MEMORY_BYTES];
int main(void) {
  static embbert_engine_t snips, other;
  embbert_result_t result;
  int status = snips_open(&snips, first, sizeof(first));
  status |= Other_open(&other, second, sizeof(second));
  status |= embbert_engine_classify(&snips, "play some quiet jazz", 20, NULL, 0, &result);
  puts(result.name);
  status |= embbert_engine_classify(&other, "x", 1, NULL, 0, &result);
  puts(result.name);
  return status;
}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory, snips):
    """Two exports, the first built and installed as its README says, and the models."""
    base = tmp_path_factory.mktemp("cmake")
    models = [snips, kind("two_labels", base / "two")]
    export(snips.image, base / "out", name="snips", ecosystem="cmake")
    export(models[1].image, base / "other", name="Other", ecosystem="cmake")
    shell(commands(base / "out/README.md")[0], base / "out")
    shell("cmake --install ../snips_build --prefix ../prefix", base / "out")
    return base, models


def test_the_example_answers_on_the_host(built):
    base, (snips, _) = built
    run = commands(base / "out/README.md")[1].split("|")[1]
    assert shell(run, base / "out", snips.inputs).splitlines() == snips.outputs


def test_the_example_answers_on_a_cortex_m4(built):
    base, (snips, _) = built
    _, _, build, run = commands(base / "out/README.md")
    shell(build, base / "out")
    assert shell(run.split("|")[1], base / "out", snips.inputs).splitlines() == snips.outputs
    check_sizes("cmake", base / "snips_m4/snips_example")


def test_a_package_for_a_cortex_m4_is_found(built):
    base, (snips, _) = built
    if not (base / "snips_m4").exists():  # of the test above
        shell(commands(base / "out/README.md")[2], base / "out")
    shell("cmake --install snips_m4 --prefix prefix_m4", base)
    folder = base / "for_m4"
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(FOR_M4)
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={base}/out/cmake/cortex-m4.cmake"
    shell(f"cmake -S for_m4 -B m4 {toolchain} -Dsnips_ROOT={base}/prefix_m4", base)
    shell("cmake --build m4", base)
    assert shell(f"{QEMU} m4/program", base, snips.inputs).splitlines() == snips.outputs


@pytest.mark.slow
@pytest.mark.parametrize("way", ["find_package", "add_subdirectory"])
def test_a_project_takes_two_exports(built, way, tmp_path):
    base, models = built
    folder = base / way
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(CONSUMER)
    (folder / "consumer.c").write_text(CONSUMER_C)
    flag = "-DSUBDIRECTORIES=ON"
    if way == "find_package":
        flag = f"-DCMAKE_PREFIX_PATH={base / 'prefix'}"
        install = "-DCMAKE_INSTALL_PREFIX=prefix && cmake --build other_build --target install"
        shell(f"cmake -S other -B other_build {install}", base)
    shell(f"cmake -S {way} -B {tmp_path} {flag} && cmake --build {tmp_path}", base)
    expected = [models[0].outputs[0].split(" ")[0], models[1].model.answer("x")[0]]
    assert shell(f"{tmp_path}/consumer", base).splitlines() == expected


def test_exports_of_two_versions_or_runtimes_do_not_mix(built, tmp_path):
    base, _ = built
    shutil.copytree(base / "other", tmp_path / "other")
    shutil.copytree(base / "out", tmp_path / "out")
    file = tmp_path / "other/CMakeLists.txt"
    file.write_text(file.read_text().replace("VERSION 0.1.0", "VERSION 0.2.0"))
    (tmp_path / "both").mkdir()
    (tmp_path / "both/CMakeLists.txt").write_text(CONSUMER)
    with pytest.raises(AssertionError, match="export all models of a program with one version"):
        shell("cmake -S both -B build -DSUBDIRECTORIES=ON", tmp_path)
    text = file.read_text().replace("VERSION 0.2.0", "VERSION 0.1.0")
    file.write_text(text.replace('STREQUAL "embbert"', 'STREQUAL "tflm"'))
    with pytest.raises(AssertionError, match="they have to have one"):
        shell("cmake -S both -B build -DSUBDIRECTORIES=ON", tmp_path)
