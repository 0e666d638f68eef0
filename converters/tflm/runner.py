"""Runs a model folder on the real TFLM interpreter, on all cores."""

import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import joblib
import numpy as np

from converters.tflite import model_folder
from converters.tflm import scan_runner
from embbert_tf.data import tokenizer

_ARENA_BYTES = 16 << 20
_BATCH = 16
# So few rows take less time than starting processes does.
_FEW = 64


class Runner:
    """One TFLM interpreter for one graph of the portable kind.

    Args:
      tflite: The file's bytes.
      max_length: Tokens of its input.
      pair: Whether it takes segment ids as a second input.
    """

    def __init__(self, tflite: bytes, max_length: int, pair: bool) -> None:
        self._interpreter = scan_runner.interpreter(tflite, _ARENA_BYTES)
        self._length, self._pair = max_length, pair

    def logits(self, ids: list[int]) -> np.ndarray:
        """Returns the int8 logits (L,) of token ids without padding."""
        # The inputs' memory is reused while the graph runs, so both are set every time.
        self._interpreter.set_input(model_folder.pad(ids, self._length), 0)
        if self._pair:
            segments = tokenizer.segment_ids(ids)
            self._interpreter.set_input(model_folder.pad(segments, self._length), 1)
        self._interpreter.invoke()
        return np.array(self._interpreter.get_output(0)).reshape(-1)


class Progress:
    """Says on standard error how far a long evaluation is; short ones stay silent.

    Args:
      what: What is being evaluated.
      total: Rows.
      period: Seconds from one line to the next.
    """

    def __init__(self, what: str, total: int, period: float = 10.0) -> None:
        self._what, self._total, self._period = what, total, period
        self._start = self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        """Notes that `done` rows are finished."""
        now = time.monotonic()
        if now - self._last < self._period or done >= self._total:
            return
        self._last = now
        left = (now - self._start) / done * (self._total - done)
        print(
            f"{self._what}: {done:,} of {self._total:,} rows, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


@functools.lru_cache(maxsize=1)
def _made(make: Callable, arguments: tuple) -> Any:
    return make(*arguments)


def _run(make: Callable, arguments: tuple, batch: Sequence[list[int]]) -> np.ndarray:
    """Runs one batch in a worker process, which keeps its runner for the next."""
    runner = _made(make, arguments)
    return np.stack([runner.logits(ids) for ids in batch])


def cores() -> int:
    """Returns the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_with(
    make: Callable,
    arguments: tuple,
    sequences: Sequence[list[int]],
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Returns the logits (count, L) that runners in several processes compute.

    Args:
      make: `make(*arguments)` returns an object with `logits(ids)`; both can be pickled.
      arguments: Of `make`; hashable.
      sequences: Token ids of each text, without padding; at least one.
      workers: Processes; 0 for as many as there are cores.
      progress: Called with the number of finished sequences now and then.
    """
    progress = progress or (lambda done: None)
    workers = min(workers or cores(), len(sequences))
    rows = []
    if workers == 1 or len(sequences) < _FEW:
        runner = make(*arguments)
        for ids in sequences:
            rows.append(runner.logits(ids)[np.newaxis])
            progress(len(rows))
        return np.concatenate(rows)
    batches = [sequences[start : start + _BATCH] for start in range(0, len(sequences), _BATCH)]
    # joblib's workers do not run the caller's script again, as spawned processes would, and are not
    # forked from a process in which TensorFlow's threads may run.
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator")
    for logits in parallel(joblib.delayed(_run)(make, arguments, batch) for batch in batches):
        rows.append(logits)
        progress(min(len(rows) * _BATCH, len(sequences)))
    return np.concatenate(rows)


def run_all(
    folder: model_folder.ModelFolder,
    sequences: list[list[int]],
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Returns int8 logits (count, L) of every sequence.

    Args:
      folder: The model.
      sequences: Token ids of each text, without padding.
      workers: Processes; 0 for as many as there are cores.
      progress: Called with the number of finished sequences now and then.
    """
    if not sequences:
        return np.zeros((0, max(len(folder.labels), 1)), np.int8)
    arguments = (folder.tflite, folder.max_length, folder.pair)
    return run_with(Runner, arguments, sequences, workers, progress)
