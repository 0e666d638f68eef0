"""Runs a `.tflite` on the real TFLM interpreter in children that may die, and reports as JSON.

`python -m converters.tflm.arena_probe model.tflite` prints one JSON object:

* `head_bytes`, `tail_bytes`: the arena as TFLM's recording allocator counts it;
* `used_bytes`: their sum, `arena_used_bytes()`;
* `smallest_bytes`: the smallest arena with which the model loads and answers as it does with a
  large one, found by bisection. It is more than `used_bytes`, as allocation itself needs room.

An arena that is too small may make TFLM fault, and a failed check of its own makes it spin, so
every trial runs in a forked child with a time limit. This module imports nothing but the
interpreter, so that forking stays cheap and safe.
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
from tflite_micro.python.tflite_micro import runtime

_LARGE = 64 << 20
_STEP = 16  # TFLM aligns everything in the arena to this
_TIMEOUT_SECONDS = 60.0


class ProbeError(RuntimeError):
    """TFLM could not load or run the model at all; the message has TFLM's own last words."""


def _answer(model: bytes, arena: int, record: bool) -> bytes:
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena)
    outputs = []
    index = 0
    while True:
        try:
            details = interpreter.get_input_details(index)
        except (ValueError, IndexError, RuntimeError):
            break
        shape = tuple(int(n) for n in details["shape"])
        # Ones are in range for every embedding table with two rows.
        interpreter.set_input(np.ones(shape, details["dtype"]), index)
        index += 1
    interpreter.invoke()
    index = 0
    while True:
        try:
            outputs.append(np.asarray(interpreter.get_output(index)).tobytes())
        except (ValueError, IndexError, RuntimeError):
            break
        index += 1
    if record:
        interpreter.print_allocations()
    return b"".join(outputs)


def trial(model: bytes, arena: int, record: bool = False) -> tuple[bytes | None, str]:
    """Runs the model once in a child.

    Args:
      model: The `.tflite`.
      arena: Arena in bytes.
      record: Whether the child prints TFLM's allocation record.

    Returns:
      The outputs' bytes, or None when the child failed, died or ran out of time; and what TFLM
      printed.
    """
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(reader)
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                data = _answer(model, arena, record)
                os.write(writer, len(data).to_bytes(8, "little"))
                view = memoryview(data)
                while view:
                    view = view[os.write(writer, view) :]
                status = 0
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(status)
        os.close(writer)
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        received = b""
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([reader], [], [], left)[0]:
                os.kill(child, signal.SIGKILL)
                break
            piece = os.read(reader, 1 << 16)
            if not piece:
                break
            received += piece
        os.close(reader)
        status = os.waitpid(child, 0)[1]
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    if status == 0 and len(received) >= 8:
        return received[8:], text
    if os.WIFSIGNALED(status):
        text += f"child died of signal {os.WTERMSIG(status)}\n"
    return None, text


def probe(model: bytes) -> dict[str, int]:
    """Measures the arena of `model`; see the module's docstring for the keys.

    Raises:
      ProbeError: The model does not run on TFLM with any arena.
    """
    wanted, text = trial(model, _LARGE, record=True)
    if wanted is None:
        raise ProbeError(" / ".join(text.strip().splitlines()[-4:]) or "no answer")
    sizes = dict(re.findall(r"Arena allocation (total|head|tail) (\d+) bytes", text))
    if len(sizes) != 3:
        raise ProbeError("TFLM printed no allocation record")
    low, high = 0, int(sizes["total"])
    while trial(model, high)[0] != wanted:
        low, high = high, high + max(high // 8, 1024)
        if high > _LARGE:
            raise ProbeError(f"does not run in {_LARGE} bytes")
    low = max(low, int(sizes["total"]) // 2)
    while high - low > _STEP:
        middle = (low + high) // 2 // _STEP * _STEP
        if middle <= low:
            break
        if trial(model, middle)[0] == wanted:
            high = middle
        else:
            low = middle
    return {
        "head_bytes": int(sizes["head"]),
        "tail_bytes": int(sizes["tail"]),
        "used_bytes": int(sizes["total"]),
        "smallest_bytes": high,
    }


def measure(path) -> dict[str, int]:
    """Runs `probe` on a file in a process of its own, away from the caller's threads.

    Raises:
      ProbeError: The model does not run on TFLM.
    """
    result = subprocess.run(
        [sys.executable, "-m", "converters.tflm.arena_probe", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise ProbeError(result.stderr.strip().splitlines()[-1] if result.stderr else "no answer")
    return json.loads(result.stdout)


def main(argv: list[str]) -> int:
    """Entry point; see the module's docstring."""
    if len(argv) != 2:
        print("usage: python -m converters.tflm.arena_probe model.tflite", file=sys.stderr)
        return 2
    try:
        with open(argv[1], "rb") as file:
            model = file.read()
        print(json.dumps(probe(model)))
    except (OSError, ProbeError) as error:
        print(f"tflm_probe: {argv[1]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
