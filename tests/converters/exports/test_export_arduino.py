"""Arduino: Debian's arduino-builder compiles the example for a platform of the tests' own."""

import shutil
import subprocess

import pytest

from tests.support import arduino
from tests.support.exports import QEMU, check_sizes, export_two, shell, with_call

pytestmark = pytest.mark.skipif(
    shutil.which("arduino-builder") is None or shutil.which("arduino-ctags") is None,
    reason="apt-get install arduino-builder arduino-ctags",
)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory, snips):
    """A sketchbook with two exports, and a platform."""
    base = tmp_path_factory.mktemp("arduino")
    arduino.write_platform(base / "hardware")
    return base, export_two(base / "libraries", snips, "arduino")


def build(base, sketch, name):
    """Compiles a sketch and returns the program."""
    path = base / f"build_{name}"
    for folder in (path, base / "cache"):
        folder.mkdir(exist_ok=True)
    command = ["arduino-builder", "-compile", "-hardware", base / "hardware", "-tools", base]
    command += ["-libraries", base / "libraries", "-fqbn", "embbert:arm:m4", "-build-path", path]
    command += ["-build-cache", base / "cache", "-warnings", "all", sketch]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr
    return path / f"{sketch.name}.elf"


def test_the_example_answers(libraries, snips):
    base, _ = libraries
    program = build(base, base / "libraries/snips/examples/classify/classify.ino", "snips")
    assert shell(f"{QEMU} {program}", base, snips.inputs).splitlines() == snips.outputs
    check_sizes("arduino", program)


@pytest.mark.slow
def test_a_sketch_takes_two_exports(libraries):
    """The example of one, which opens the other, too."""
    base, models = libraries
    example = base / "libraries/pair_score/examples/classify/classify.ino"
    sketch = base / "both/both.ino"
    sketch.parent.mkdir()
    sketch.write_text("#include <snips_model.h>\n" + with_call(example, "void setup() {\n"))
    program = build(base, sketch, "both")
    printed = shell(f"{QEMU} {program}", base, models["pair_score"].inputs)
    assert printed.splitlines() == models["pair_score"].outputs


def test_the_library_says_what_the_manager_wants(libraries):
    base, _ = libraries
    lines = (base / "libraries/snips/library.properties").read_text().splitlines()
    said = dict(line.split("=", 1) for line in lines)
    wanted = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url"}
    assert wanted <= {key for key, value in said.items() if value}
    assert said["name"] == "snips" and said["architectures"] == "*"
