"""Arduino: Debian's arduino-builder compiles the example for a platform of the tests' own."""

import shutil
import subprocess

import pytest

from tests.support import arduino
from tests.support.exports import QEMU, check_sizes, export, kind, shell

pytestmark = pytest.mark.skipif(
    shutil.which("arduino-builder") is None or shutil.which("arduino-ctags") is None,
    reason="apt-get install arduino-builder arduino-ctags",
)

BOTH = """#include <snips_model.h>
#include <pair_score_model.h>

static embbert_engine_t engine;
alignas(8) static uint8_t memory[PAIR_SCORE_MEMORY_BYTES + SNIPS_MEMORY_BYTES];

void setup() {
  int status = snips_open(&engine, memory, sizeof(memory));
  Serial.println(embbert_engine_message(status));
  status = pair_score_open(&engine, memory, sizeof(memory));
  Serial.println(embbert_engine_message(status));
}

void loop() {
  char c;
  Serial.readBytesUntil('\\n', &c, 1);
}
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory, snips):
    """A sketchbook with two exports, and a platform."""
    base = tmp_path_factory.mktemp("arduino")
    arduino.write_platform(base / "hardware")
    models = {"snips": snips, "pair_score": kind("pair_score", base / "models")}
    for name, model in models.items():
        export(model.image, base / "libraries" / name, name=name, ecosystem="arduino")
    return base, models


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


@pytest.mark.parametrize("name", ["snips", "pair_score"])
def test_the_example_answers(libraries, name):
    base, models = libraries
    program = build(base, base / "libraries" / name / "examples/classify/classify.ino", name)
    printed = shell(f"{QEMU} {program}", base, models[name].inputs).splitlines()
    assert printed == models[name].outputs
    if name == "snips":
        check_sizes("arduino", program)


def test_a_sketch_takes_two_exports(libraries):
    base, _ = libraries
    sketch = base / "both/both.ino"
    sketch.parent.mkdir()
    sketch.write_text(BOTH)
    assert shell(f"{QEMU} {build(base, sketch, 'both')}", base, "") == "no error\nno error\n"


def test_the_library_says_what_the_manager_wants(libraries):
    base, _ = libraries
    lines = (base / "libraries/snips/library.properties").read_text().splitlines()
    said = dict(line.split("=", 1) for line in lines)
    wanted = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url"}
    assert wanted <= {key for key, value in said.items() if value}
    assert said["name"] == "snips" and said["architectures"] == "*"
