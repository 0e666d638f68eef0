"""Runs the project's own commands from another command."""

import os
import pathlib
import shlex
import subprocess
import sys

_ROOT = pathlib.Path(__file__).resolve().parent.parent


class CommandError(RuntimeError):
    """A command failed; the message has the command and its own last words."""


def run(module: str, *arguments: str) -> str:
    """Runs `python -m module arguments...` with this copy of the project; returns what it prints.

    Paths among the arguments are relative to the caller's folder, as they would be by hand.

    Raises:
      CommandError: Its exit status is not 0.
    """
    path = os.environ.get("PYTHONPATH")
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"PYTHONPATH": f"{_ROOT}{os.pathsep}{path}" if path else str(_ROOT)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode:
        words = result.stderr.strip().splitlines() or ["it says nothing"]
        line = shlex.join(["python", "-m", module, *arguments])
        raise CommandError(f"`{line}` failed (exit status {result.returncode}): {words[-1]}")
    return result.stdout
