"""The arena of any `.tflite`, measured with the real TFLM interpreter of this machine.

An arena that is too small may make TFLM fault, and a failed check of its own makes it spin, so
every trial runs in a forked child with a time limit (`converters/tflm/child.py`).
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
from tflite_micro.python.tflite_micro import runtime

from converters.tflm import child
from embbert_tf import errors
from embbert_tf.data import files

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_LARGE = 64 << 20
_STEP = 16  # TFLM aligns everything in the arena to this
_TRIAL_SECONDS = 60.0


class ProbeError(errors.EmbBertError):
    """TFLM could not load or run the model at all; the message has TFLM's own last words."""


def measure(path: files.PathLike) -> dict[str, int]:
    """Measures the arena of a file, in a process of its own, away from the caller's threads.

    Returns:
        As `probe`.

    Raises:
        FileError: The file cannot be read.
        ProbeError: The model does not run on TFLM.
    """
    search = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from converters.tflm import arena_probe as p; p.answer_from_stdin()",
        ],
        input=files.read_bytes(path),
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        return json.loads(done.stdout)
    words = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no answer"]
    raise ProbeError(f"{path}: {words[-1]}")


def answer_from_stdin() -> None:
    """What `measure` runs: a model from standard input, JSON or one line of error out."""
    try:
        print(json.dumps(probe(sys.stdin.buffer.read())))
    except ProbeError as error:
        sys.exit(str(error))


def probe(model: bytes) -> dict[str, int]:
    """Measures the arena of a model. The caller must have no threads; see `measure`.

    Returns:
        `head_bytes` and `tail_bytes`: the arena as TFLM's recording allocator counts it;
        `used_bytes`: their sum, `arena_used_bytes()`; `smallest_bytes`: the smallest arena with
        which the model loads and answers as it does with a large one, found by bisection. It is
        more than `used_bytes`, as allocation itself needs room.

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


def trial(model: bytes, arena: int, record: bool = False) -> tuple[bytes | None, str]:
    """Runs a model once in a child.

    Args:
        model: The `.tflite`.
        arena: Arena in bytes.
        record: Whether the child prints TFLM's allocation record.

    Returns:
        The outputs' bytes, or None when the child failed, died or ran out of time; and what TFLM
        printed.
    """
    outcome = child.call(lambda: _answer(model, arena, record), _TRIAL_SECONDS)
    text = outcome.text
    if outcome.signal is not None:
        text += f"child died of signal {outcome.signal}\n"
    return outcome.answer, text


def _answer(model: bytes, arena: int, record: bool) -> bytes:
    """Returns the outputs of one inference, or exits with one line of error."""
    try:
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena)
        _set_inputs(interpreter)
        interpreter.invoke()
        outputs = _outputs(interpreter)
        if record:
            interpreter.print_allocations()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)
    return outputs


def _set_inputs(interpreter: runtime.Interpreter) -> None:
    index = 0
    while True:
        try:
            details = interpreter.get_input_details(index)
        except (ValueError, IndexError, RuntimeError):
            return
        shape = tuple(int(n) for n in details["shape"])
        # Ones are in range for every embedding table with two rows.
        interpreter.set_input(np.ones(shape, details["dtype"]), index)
        index += 1


def _outputs(interpreter: runtime.Interpreter) -> bytes:
    outputs: list[bytes] = []
    while True:
        try:
            outputs.append(np.asarray(interpreter.get_output(len(outputs))).tobytes())
        except (ValueError, IndexError, RuntimeError):
            return b"".join(outputs)
