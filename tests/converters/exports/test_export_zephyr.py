"""Zephyr: module, Kconfig and sample, built with a stand-in for Zephyr's own CMake."""

import shutil

import pytest

from tests.support import zephyr
from tests.support.exports import QEMU, check_sizes, export_two, shell

kconfiglib = pytest.importorskip("kconfiglib", reason="pip install kconfiglib")
yaml = pytest.importorskip("ruamel.yaml", reason="pip install ruamel.yaml")
pytestmark = pytest.mark.skipif(
    shutil.which("cmake") is None, reason="cmake is missing; apt-get install cmake"
)


@pytest.fixture(scope="module")
def modules(tmp_path_factory, snips):
    """Two modules, their models, and Zephyr's stand-in."""
    base = tmp_path_factory.mktemp("zephyr")
    zephyr.write_base(base / "base")
    return base, export_two(base, snips, "zephyr")


def build(base, sample, *flags):
    """Builds an application; returns what starts it."""
    out = base / f"build_{sample.replace('/', '_')}"
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={base}/base/toolchain.cmake"
    package = f"-DZephyr_DIR={base}/base/share/zephyr-package/cmake"
    shell(f"cmake -S {sample} -B {out} {toolchain} {package} {' '.join(flags)}", base)
    shell(f"cmake --build {out}", base)
    return f"{QEMU} {out}/zephyr.elf"


def test_the_sample_answers(modules, snips):
    base, _ = modules
    run = build(base, "snips/samples/classify")
    assert shell(run, base, snips.inputs).splitlines() == snips.outputs
    check_sizes("zephyr", base / "build_snips_samples_classify/zephyr.elf")


@pytest.mark.slow
def test_an_application_takes_two_modules(modules):
    """The sample of one; whole archives of both are linked."""
    base, models = modules
    both = base / "both"
    shutil.copytree(base / "pair_score/samples/classify", both)
    (both / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20.0)\nfind_package(Zephyr REQUIRED)\nproject(both)\n"
        "target_sources(app PRIVATE src/main.c)\n"
    )
    with open(both / "prj.conf", "a") as file:
        file.write("CONFIG_SNIPS_MODEL=y\n")
    run = build(base, "both", f"'-DZEPHYR_EXTRA_MODULES={base}/snips;{base}/pair_score'")
    case = models["pair_score"]
    assert shell(run, base, case.inputs).splitlines() == case.outputs


def test_a_module_that_is_not_chosen_adds_nothing(modules):
    base, _ = modules
    nothing = base / "snips/samples/nothing"
    (nothing / "src").mkdir(parents=True)
    (nothing / "prj.conf").write_text("CONFIG_MAIN_STACK_SIZE=4096\n")
    (nothing / "src/main.c").write_text("int main(void) { return 0; }\n")
    shutil.copy(base / "snips/samples/classify/CMakeLists.txt", nothing)
    build(base, "snips/samples/nothing")
    assert not list((base / "build_snips_samples_nothing").rglob("libembbert.a"))


@pytest.mark.parametrize("name", ["snips", "pair_score"])
def test_kconfig_knows_every_symbol_of_the_sample(modules, name):
    base, _ = modules
    (base / "Kconfig").write_text(f'{zephyr.KCONFIG}\nsource "{base}/{name}/zephyr/Kconfig"\n')
    kconfig = kconfiglib.Kconfig(str(base / "Kconfig"), warn_to_stderr=False)
    symbol = kconfig.syms[f"{name.upper()}_MODEL"]
    assert symbol.str_value == "n" and symbol.nodes[0].prompt and "flash" in symbol.nodes[0].help
    kconfig.load_config(str(base / name / "samples/classify/prj.conf"))
    assert symbol.str_value == "y"
    assert kconfig.warnings == []


@pytest.mark.parametrize("name", ["snips", "pair_score"])
def test_the_thread_of_the_readme_compiles(modules, name, tmp_path):
    base, _ = modules
    thread = (base / name / "README.md").read_text().split("```c\n")[1].split("```")[0]
    (tmp_path / "thread.c").write_text(thread)
    headers = base / "base/share/zephyr-package/cmake/include"
    flags = f"-std=gnu11 -Wall -Werror -fsyntax-only -I{headers} -I{base / name / 'include'}"
    shell(f"arm-none-eabi-gcc {flags} thread.c", tmp_path)


def test_module_yml_names_what_is_there(modules):
    base, _ = modules
    reader = yaml.YAML(typ="safe")
    module = reader.load(base / "snips/zephyr/module.yml")
    assert set(module) == {"name", "build", "samples"} and module["name"] == "snips"
    assert (base / "snips" / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (base / "snips" / module["build"]["kconfig"]).is_file()
    assert (base / "snips" / module["samples"][0]).is_dir()
    sample = reader.load(base / "snips/samples/classify/sample.yaml")
    assert sample["sample"]["name"] == "snips" and list(sample["tests"]) == [
        "sample.snips.classify"
    ]
