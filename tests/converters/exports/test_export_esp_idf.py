"""ESP-IDF: the component packed by its own tool, and its example built with a stand-in for it."""

import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest

from tests.support import esp_idf
from tests.support.exports import QEMU, check_sizes, export_two, shell, with_call

NEEDS_CMAKE = pytest.mark.skipif(
    shutil.which("cmake") is None, reason="cmake is missing; apt-get install cmake"
)


@pytest.fixture(scope="module")
def components(tmp_path_factory, snips):
    """Two components, their models, and the stand-in."""
    base = tmp_path_factory.mktemp("esp_idf")
    esp_idf.write_idf(base / "idf")
    return base, export_two(base, snips, "esp_idf")


def build(base, project, *needed):
    """Builds a project with the components; returns what starts it."""
    out = base / f"build_{project.parts[0]}"
    folders = ";".join(str(base / name) for name in needed)
    shell(
        f"IDF_PATH={base}/idf cmake -S {project} -B {out} '-DEXTRA_COMPONENT_DIRS={folders}' && "
        f"cmake --build {out}",
        base,
    )
    return f"{QEMU} {out}/program.elf"


@NEEDS_CMAKE
def test_the_example_answers(components, snips):
    base, _ = components
    run = build(base, pathlib.Path("snips/examples/classify"), "snips")
    assert shell(run, base, snips.inputs).splitlines() == snips.outputs
    check_sizes("esp_idf", base / "build_snips/program.elf")


@NEEDS_CMAKE
@pytest.mark.slow
def test_a_project_takes_two_components(components):
    """The example of one, which opens the other, too."""
    base, models = components
    shutil.copytree(base / "pair_score/examples/classify", base / "both")
    main = base / "both/main"
    (main / "CMakeLists.txt").write_text(
        "idf_component_register(SRCS main.c PRIV_REQUIRES pair_score snips)\n"
    )
    text = with_call(main / "main.c", "void app_main(void) {\n")
    (main / "main.c").write_text(f'#include "snips_model.h"\n{text}')
    run = build(base, pathlib.Path("both"), "snips", "pair_score")
    case = models["pair_score"]
    assert shell(run, base, case.inputs).splitlines() == case.outputs


def test_the_component_manager_packs_it(components, tmp_path):
    pytest.importorskip("idf_component_manager", reason="pip install idf-component-manager")
    base, _ = components
    compote = [pathlib.Path(sys.executable).with_name("compote"), "component", "pack"]
    place = ["--project-dir", base / "snips", "--name", "snips", "--dest-dir", tmp_path]
    done = subprocess.run(
        list(map(str, [*compote, *place])),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    archive = tmp_path / "snips_0.1.0.tgz"
    with tarfile.open(archive) as packed:
        names = {name.removeprefix("./") for name in packed.getnames()}
    assert {"idf_component.yml", "src/snips_model.c", "LICENSE", "README.md"} <= names
    assert "examples/classify/main/main.c" in names
