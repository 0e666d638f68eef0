"""Puts the files that are no Python into the wheel; pyproject.toml has all else.

`converters/firmware/sources.py` finds them there, and in a checkout where they are written.
"""

import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).resolve().parent
FOLDERS = ("tflm_app", "zoo/snips")
# Made by builds, and what only this project's own tests read.
LEFT_OUT = ("tflm_app/build", "tflm_app/fuzz/corpus")


class BuildWithData(build_py):
    """Copies firmware and model beside the packages that read them."""

    def run(self) -> None:
        """Copies files, the packages' first."""
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)  # which keeps what was deleted since
        super().run()
        if self.editable_mode:
            return
        target = pathlib.Path(self.build_lib) / "converters/data"
        for path in [ROOT / "LICENSE", *self._files()]:
            copy = target / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(path), str(copy))

    def _files(self) -> list[pathlib.Path]:
        left_out = tuple(f"{folder}/" for folder in LEFT_OUT)
        return [
            path
            for folder in FOLDERS
            for path in sorted((ROOT / folder).rglob("*"))
            if path.is_file()
            and not path.relative_to(ROOT).as_posix().startswith(left_out)
            and "__pycache__" not in path.parts
        ]


setup(cmdclass={"build_py": BuildWithData})
