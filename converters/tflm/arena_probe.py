"""Any `.tflite` on the real TFLM interpreter of this machine: answers, and the arena it takes here.

An arena that is too small may make TFLM fault, and a failed check of its own makes it spin, so
every trial runs in a forked child with a time limit (`converters/tflm/child.py`).
"""

import ctypes
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
from tflite_micro.python.tflite_micro import runtime

from converters.tflite import reader
from converters.tflm import arrays, child, probe_inputs
from embbert_tf import errors
from embbert_tf.data import files

_ROOT = pathlib.Path(__file__).resolve().parents[2]
LARGE = 64 << 20
_STEP = 16  # TFLM aligns everything in the arena to this
_TRIAL_SECONDS = 60.0
_M_PERTURB, _FILL = -6, 0xA5  # of glibc's malloc.h; any byte that is neither 0 nor 255

# How the words of a trial begin that took too long, and that ended by itself.
LATE, DIED = "TFLM did not answer", "TFLM died of signal"

Inputs = Sequence[Sequence[np.ndarray]]


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
    except errors.EmbBertError as error:
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
        FlatbufferError: The bytes are no readable `.tflite`.
    """
    inputs = probe_inputs.choose(reader.read_all(model), inferences=1)
    wanted, text = trial(model, LARGE, inputs, record=True)
    if wanted is None:
        raise ProbeError(" / ".join(text.strip().splitlines()[-4:]) or "no answer")
    sizes = recorded(text)
    if sizes is None:
        raise ProbeError("TFLM printed no allocation record")
    low, high = 0, sizes["used_bytes"]
    while trial(model, high, inputs)[0] != wanted:
        low, high = high, high + max(high // 8, 1024)
        if high > LARGE:
            raise ProbeError(f"does not run in {LARGE} bytes")
    low = max(low, sizes["used_bytes"] // 2)
    while high - low > _STEP:
        middle = (low + high) // 2 // _STEP * _STEP
        if middle <= low:
            break
        if trial(model, middle, inputs)[0] == wanted:
            high = middle
        else:
            low = middle
    return {**sizes, "smallest_bytes": high}


def recorded(text: str) -> dict[str, int] | None:
    """Returns head, tail and their sum in bytes from what TFLM's recording allocator prints."""
    sizes = dict(re.findall(r"Arena allocation (total|head|tail) (\d+) bytes", text))
    if len(sizes) != 3:
        return None
    return {
        "head_bytes": int(sizes["head"]),
        "tail_bytes": int(sizes["tail"]),
        "used_bytes": int(sizes["total"]),
    }


def trial(
    model: bytes, arena: int, inputs: Inputs, record: bool = False, fill: bool = False
) -> tuple[bytes | None, str]:
    """Runs a model in a child, one inference after another.

    Args:
        model: The `.tflite`.
        arena: Arena in bytes.
        inputs: Arrays for each inference.
        record: Whether the child prints TFLM's allocation record.
        fill: Whether the arena holds other bytes than zeros before TFLM writes to it.

    Returns:
        The outputs as `arrays.pack` packs them, or None when the child failed, died or ran out of
        time; and what TFLM printed.
    """

    def answer() -> bytes:
        if fill:
            _fill_new_memory()
        return _answer(model, arena, inputs, record)

    outcome = child.call(answer, _TRIAL_SECONDS)
    text = outcome.text
    if outcome.signal is not None:
        text += f"{DIED} {outcome.signal}\n"
    if outcome.late:
        text = f"{LATE} within {_TRIAL_SECONDS:g} seconds\n"
    return outcome.answer, text


def _fill_new_memory() -> None:
    """Lets glibc's malloc fill what it hands out; C libraries without mallopt go on as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_PERTURB, _FILL)


def _answer(model: bytes, arena: int, inputs: Inputs, record: bool) -> bytes:
    """Returns the outputs of the inferences, or exits with one line of error."""
    outputs = len(reader.read(model).outputs)
    answers = []
    try:
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena)
        for given in inputs:
            for index, array in enumerate(given):
                interpreter.set_input(array, index)
            interpreter.invoke()
            # A copy: the next inference overwrites the arena.
            answers.append([np.array(interpreter.get_output(i)) for i in range(outputs)])
        if record:
            interpreter.print_allocations()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)
    return arrays.pack(answers)
