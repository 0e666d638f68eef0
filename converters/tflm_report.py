"""Says what a `.tflite`, of whatever origin, takes to run on TensorFlow Lite for Microcontrollers.

Prints
* the operators it needs, as `MicroMutableOpResolver` code to paste, and those that TFLM lacks;
* the arena that the real TFLM interpreter records on this machine (head: activations, tail: what it
  keeps for good), and the smallest arena with which the model still gives its answers;
* which tensor lies where in the arena over time, the peak and the operator that makes it; the same
  as a PNG (--picture).

A file that TFLM cannot run gets the reason in place of the measurements. Everything that touches
the file happens in child processes with limits on time and memory: a damaged file ends in one line.

Example:
  python -m converters.tflm_report model.tflite --picture=arena.png
"""

import os
import pathlib
import resource
import signal
import sys
import time
import traceback

from absl import app, flags

from converters.report import arena_map, tflm_needs
from converters.tflite import graph as graph_lib

_PICTURE = flags.DEFINE_string(
    "picture", None, "The PNG to write; default NAME.arena.png in the current folder; '' for none."
)
_TIMEOUT = flags.DEFINE_float(
    "timeout", 300.0, "Seconds after which the analysis is given up.", lower_bound=0.001
)
_MEMORY = flags.DEFINE_integer(
    "memory_mb", 8192, "Memory limit of the analysis in MiB.", lower_bound=256
)


def _worker(path: str, picture: str | None) -> int:
    """Reports under limits; returns the exit status."""
    limit = _MEMORY.value << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        tflm_needs.report(path, picture)
    except (tflm_needs.ReportError, graph_lib.FlatbufferError) as error:
        message = arena_map.printable(str(error), 300)
    except OSError as error:
        message = f"{error.strerror or error}"
    except MemoryError:
        message = f"damaged .tflite, or one that needs more than --memory_mb={_MEMORY.value}"
    else:
        return 0
    print(f"tflm_report: {path}: {message}", file=sys.stderr)
    return 1


def main(argv):
    """Entry point."""
    if len(argv) != 2:
        raise app.UsageError("give one .tflite file")
    path = argv[1]
    picture = _PICTURE.value
    if picture is None:
        picture = f"{pathlib.Path(path).stem}.arena.png"
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        os.setsid()  # so that it and its own children can be ended together
        try:
            status = _worker(path, picture)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    status, deadline = None, time.monotonic() + _TIMEOUT.value
    try:
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            status = None
            time.sleep(0.02)
    finally:
        if status is None:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if status is None:
        sys.exit(f"tflm_report: {path}: given up after --timeout={_TIMEOUT.value:g} seconds")
    if os.WIFSIGNALED(status):
        sys.exit(
            f"tflm_report: {path}: damaged .tflite: reading it died of signal {os.WTERMSIG(status)}"
        )
    sys.exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    app.run(main)
