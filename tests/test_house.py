"""The order of the house that no linter holds: lengths, commands, packages."""

import ast
import importlib
import pathlib
import subprocess
import sys

import pytest
import setuptools
from absl import flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("embbert_tf", "calibration", "converters")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
COMMANDS = [
    path
    for path in SOURCES
    if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8") and path.name != "cli.py"
]
# The maintainers' commands lie in folders of their own.
FOLDERS_OF_COMMANDS = (*PACKAGES, "converters/zoo", "converters/benchmarks")
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 60
# Longer ones that would read worse in parts.
LONGER = {}


def name_of(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_can_be_read_at_a_glance(path):
    text = path.read_text(encoding="utf-8")
    lengths = {name_of(path): len(text.splitlines())}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lengths[f"{name_of(path)}: {node.name}"] = node.end_lineno - node.lineno + 1
    too_long = {
        name: lines
        for name, lines in lengths.items()
        if lines > LONGER.get(name, MOST_LINES_OF_A_FUNCTION if ": " in name else MOST_LINES)
    }
    assert too_long == {}


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_commands_lie_where_commands_are_and_define_nothing_on_import(path):
    assert name_of(path.parent) in FOLDERS_OF_COMMANDS
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    command = importlib.import_module(module)
    assert flags.FLAGS.flags_by_module_dict().get(module, []) == []
    values = flags.FlagValues()
    command.define_flags(values)
    assert all(flag.help for flag in values.get_flags_for_module(module))
    assert callable(command.main)


def test_importing_the_packages_loads_no_tensorflow():
    script = (
        "import sys, embbert_tf, calibration, converters\n"
        "heavy = {'tensorflow', 'tf_keras', 'tflite_micro', 'matplotlib', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_wheel_holds_every_package():
    found = set(setuptools.find_packages(ROOT, include=[f"{package}*" for package in PACKAGES]))
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in SOURCES}
    assert found == folders
