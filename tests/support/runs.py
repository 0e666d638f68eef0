"""Runs the project's commands, in this process or in one of their own."""

import contextlib
import importlib
import io
import pathlib
import subprocess
import sys

from absl import app, flags

from embbert_tf import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]


def small_rows() -> list[tuple[str, str]]:
    """180 texts of three classes that one word decides."""
    words = {"on": ("start", "enable"), "off": ("stop", "disable"), "ask": ("what", "which")}
    return [
        (f"{word} the {thing} {number}", label)
        for number in range(6)
        for label, pair in words.items()
        for word in pair
        for thing in ("fan", "lamp", "pump", "door", "heater")
    ]


def run_command(module: str, *arguments) -> subprocess.CompletedProcess:
    """Runs a command in this process, as `python -m module arguments` would.

    Args:
        module: Such as "embbert_tf.train".
        *arguments: Of the command line; turned into strings.

    Returns:
        Exit status, and what was printed on either stream.
    """
    command = importlib.import_module(module)
    values = flags.FlagValues()
    command.define_flags(values)
    argv = [module, *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.call(module.rpartition(".")[2], command.main, values(argv), values)
        except SystemExit as leave:
            if isinstance(leave.code, str):
                print(leave.code, file=sys.stderr)
            status = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        except (flags.Error, app.UsageError) as error:
            print(f"FATAL Flags parsing error: {error}", file=sys.stderr)
            status = 1
    return subprocess.CompletedProcess(argv, status, out.getvalue(), err.getvalue())


def run_module(module: str, *arguments) -> subprocess.CompletedProcess:
    """Runs `python -m module` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def output_of(command: list, folder: pathlib.Path, **options) -> str:
    """What a command prints that must succeed; `options` are those of `subprocess.run`."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
