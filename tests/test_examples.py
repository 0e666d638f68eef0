"""The Python in docstrings and in README.md runs as it stands.

A docstring's example sees the names of its module, as with doctest, and works in a folder with
train.csv, test.csv, corpus.txt, zoo/, a finished run in build/run and a converted model in
build/model.
"""

import ast
import importlib
import pathlib
import re
import shutil
import textwrap
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks_of(text: str) -> Iterator[tuple[int, str]]:
    """Yields (line of its first line, code) of each example in a text."""
    for match in BLOCK.finditer(text):
        yield text.count("\n", 0, match.start(2)) + 1, textwrap.dedent(match[2])


def in_docstrings() -> Iterator[tuple[str, int, str]]:
    """Yields (path in the repository, line, code) of each example in the packages."""
    for package in ("embbert_tf", "calibration", "converters"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    continue
                # The text as it stands in the file: its lines are the file's.
                if text := ast.get_docstring(node, clean=False):
                    first = node.body[0].lineno - 1
                    for line, code in blocks_of(text):
                        yield str(path.relative_to(ROOT)), first + line, code


def execute(path: str, line: int, code: str, names: dict) -> None:
    # Empty lines before it, so that a traceback names the line of the file.
    exec(compile("\n" * (line - 1) + code, str(ROOT / path), "exec"), names)


@pytest.fixture
def folder(tmp_path, small_csv, monkeypatch):
    """The folder in which an example runs."""
    header, *rows = small_csv.read_text().splitlines()
    rows = rows[::3]  # what the examples need, and no more to train on
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("\n".join([header, *rows, ""]))
    texts = [row.partition(",")[0] for row in rows]
    (tmp_path / "corpus.txt").write_text("\n".join([*texts, "", *texts]))
    (tmp_path / "zoo").symlink_to(ROOT / "zoo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


EXAMPLES = list(in_docstrings())


def test_there_are_examples():
    assert len(EXAMPLES) >= 20


@pytest.mark.parametrize(
    ("path", "line", "code"), EXAMPLES, ids=[f"{path}:{line}" for path, line, _ in EXAMPLES]
)
def test_example_of_a_docstring_runs(path, line, code, folder, tiny_run, tiny_model, eager):
    # An example that makes one of its own must not find one that is finished.
    if '"build/run' in code and "output=" not in code:
        shutil.copytree(tiny_run, folder / "build/run")
    if '"build/model' in code and "save(" not in code:
        shutil.copytree(tiny_model, folder / "build/model")
    module = ".".join(pathlib.Path(path).with_suffix("").parts).removesuffix(".__init__")
    execute(path, line, code, dict(vars(importlib.import_module(module))))


@pytest.mark.slow
def test_python_of_the_readme_runs(folder, eager):
    """One block after another, as a reader would try them."""
    blocks = list(blocks_of((ROOT / "README.md").read_text(encoding="utf-8")))
    assert len(blocks) >= 2
    names = {"__name__": "readme"}
    for line, code in blocks:
        execute("README.md", line, code, names)
    assert (folder / "build/model/model.tflite").stat().st_size > 0
    assert list((folder / "build/firmware").iterdir())
