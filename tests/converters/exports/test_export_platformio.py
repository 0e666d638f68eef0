"""PlatformIO: the example, as a dependency and beside another export, on a local platform."""

import json

import pytest

from tests.support import platformio
from tests.support.exports import QEMU, check_sizes, export_two, shell, with_call

pytest.importorskip("platformio", reason="pip install platformio")
pytest.importorskip("SCons", reason="pip install scons")


@pytest.fixture(scope="module")
def project(tmp_path_factory, snips):
    """PlatformIO's core folder, a project with two exports in `lib`, and the models."""
    base = tmp_path_factory.mktemp("platformio")
    platformio.write_core(base / "core")
    return base, export_two(base / "lib", snips, "platformio")


def build(base, folder):
    """Builds a project; returns its program."""
    platformio.pio(base / "core", folder, "run")
    (program,) = folder.glob(".pio/build/*/program.elf")
    return program


def test_the_example_answers(project, snips):
    """The example's own project, but for the platform, which would be downloaded."""
    base, _ = project
    folder = base / "lib/snips/examples/classify"
    settings = (folder / "platformio.ini").read_text()
    local = settings.replace("platform = native", "platform = emulated\nboard = m4")
    assert local != settings
    (folder / "platformio.ini").write_text(local)
    program = build(base, folder)
    assert shell(f"{QEMU} {program}", base, snips.inputs).splitlines() == snips.outputs
    check_sizes("platformio", program)


@pytest.mark.slow
def test_a_project_takes_two_exports(project):
    """The example of one, which opens the other, too."""
    base, models = project
    example = base / "lib/pair_score/examples/classify/src/main.c"
    (base / "src").mkdir()
    text = with_call(example, "int main(void) {\n")
    (base / "src/main.c").write_text(f'#include "snips_model.h"\n{text}')
    (base / "platformio.ini").write_text("[env:m4]\nplatform = emulated\nboard = m4\n")
    printed = shell(f"{QEMU} {build(base, base)}", base, models["pair_score"].inputs)
    assert printed.splitlines() == models["pair_score"].outputs


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
