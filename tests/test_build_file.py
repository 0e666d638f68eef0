"""Bazel's lists of sources hold every source on disk and nothing else."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("embbert_tf", "calibration", "converters", "tests", "tflm_app", "examples")
SUFFIXES = (".py", ".c", ".h", ".cc", ".ld")


@pytest.fixture(scope="module")
def query(tmp_path_factory):
    """Answers `bazel query`; no network is needed, none is looked for."""
    if shutil.which("bazel") is None:
        pytest.skip("bazel is missing; apt-get install bazel-bootstrap")
    output = tmp_path_factory.mktemp("bazel")

    def run(expression, *options):
        result = subprocess.run(
            ["bazel", "--batch", f"--output_user_root={output}", "query", *options, expression],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    return run


@pytest.fixture(scope="module")
def kinds(query):
    """Target to its kind, such as "py_test"."""
    lines = query("//...", "--output=label_kind")
    rules = [line.split(" rule ") for line in lines if " rule " in line]
    return {label: kind for kind, label in rules}


def test_lists_hold_what_is_on_disk(query):
    # The globs of test data would make the comparison true by itself.
    listed = query('kind("source file", labels(srcs, //... - //:test_data) + labels(hdrs, //...))')
    listed = {label.removeprefix("//:") for label in listed}
    on_disk = {
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SUFFIXES and "build" not in path.relative_to(ROOT).parts
    }
    assert len(on_disk) > 80
    listed = {name for name in listed if name.endswith(SUFFIXES)}
    assert sorted(on_disk - listed) == [], "files that BUILD does not list"
    assert sorted(listed - on_disk) == [], "files in BUILD that do not exist"


def test_every_package_and_every_test_is_a_target(kinds):
    for name in ("embbert_tf", "calibration", "converters", "kernels", "tokenizer", "engine"):
        assert f"//:{name}" in kinds
    tests = [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(tests) > 20
    for path in tests:
        assert f"//:{path.with_suffix('')}" in kinds


def test_every_command_is_a_target(kinds):
    commands = [
        path.relative_to(ROOT).with_suffix("")
        for package in ("embbert_tf", "calibration", "converters")
        for path in (ROOT / package).rglob("*.py")
        if "cli.run(" in path.read_text(encoding="utf-8") and path.name != "cli.py"
    ]
    assert [f"//:{path}" for path in commands if kinds.get(f"//:{path}") != "py_binary"] == []
