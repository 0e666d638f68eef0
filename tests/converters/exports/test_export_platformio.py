"""PlatformIO: the example, as a dependency and beside another export, on a local platform."""

import json

import pytest

from tests.support import platformio
from tests.support.exports import QEMU, check_sizes, export, kind, shell

pytest.importorskip("platformio", reason="pip install platformio")
pytest.importorskip("SCons", reason="pip install scons")

BOTH = """#include <stdio.h>
#include "snips_model.h"
#include "pair_score_model.h"

static embbert_engine_t engine;
static _Alignas(8) uint8_t memory[SNIPS_MEMORY_BYTES + PAIR_SCORE_MEMORY_BYTES];

int main(void) {
  puts(embbert_engine_message(snips_open(&engine, memory, sizeof(memory))));
  puts(embbert_engine_message(pair_score_open(&engine, memory, sizeof(memory))));
  return 0;
}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, snips):
    """PlatformIO's core folder, a project with two exports in `lib`, and the models."""
    base = tmp_path_factory.mktemp("platformio")
    platformio.write_core(base / "core")
    models = {"snips": snips, "pair_score": kind("pair_score", base / "models")}
    for name, model in models.items():
        export(model.image, base / "lib" / name, name=name, ecosystem="platformio")
    return base, models


def build(base, folder):
    """Builds a project; returns its program."""
    done = platformio.pio(base / "core", folder, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    (program,) = folder.glob(".pio/build/*/program.elf")
    return program


@pytest.mark.parametrize("name", ["snips", "pair_score"])
def test_the_example_answers(project, name):
    """The example's own project, but for the platform, which would be downloaded."""
    base, models = project
    folder = base / "lib" / name / "examples/classify"
    settings = (folder / "platformio.ini").read_text()
    local = settings.replace("platform = native", "platform = emulated\nboard = m4")
    assert local != settings
    (folder / "platformio.ini").write_text(local)
    program = build(base, folder)
    assert (
        shell(f"{QEMU} {program}", base, models[name].inputs).splitlines() == models[name].outputs
    )
    if name == "snips":
        check_sizes("platformio", program)


def test_a_project_takes_two_exports(project):
    base, _ = project
    (base / "src").mkdir()
    (base / "src/main.c").write_text(BOTH)
    (base / "platformio.ini").write_text("[env:m4]\nplatform = emulated\nboard = m4\n")
    assert shell(f"{QEMU} {build(base, base)}", base) == "no error\nno error\n"


def test_the_manifest_is_as_platformio_wants_it(project):
    from platformio.package.manifest.parser import ManifestParserFactory
    from platformio.package.manifest.schema import ManifestSchema

    base, _ = project
    path = base / "lib/snips/library.json"
    manifest = ManifestParserFactory.new_from_file(str(path)).as_dict()
    # Which it holds against a list that it would fetch.
    assert manifest.pop("license") == "Apache-2.0"
    assert ManifestSchema().load_manifest(manifest)["name"] == "snips"
    for folder in json.loads(path.read_text())["build"].values():
        assert (base / "lib/snips" / folder).is_dir()
