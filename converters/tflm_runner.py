"""Runs a model folder on the real TFLM interpreter, on all cores."""

import concurrent.futures
import multiprocessing
import os

import numpy as np
from tflite_micro.python.tflite_micro import runtime

from converters import model_folder
from embbert_tf import tokenizer as tokenizer_lib

_ARENA_BYTES = 16 << 20
_state: dict = {}


class Runner:
    """One TFLM interpreter for one graph of the portable kind.

    Args:
      tflite: The file's bytes.
      max_length: Tokens of its input.
      pair: Whether it takes segment ids as a second input.
    """

    def __init__(self, tflite: bytes, max_length: int, pair: bool):
        self._interpreter = runtime.Interpreter.from_bytes(tflite, arena_size=_ARENA_BYTES)
        self._length, self._pair = max_length, pair

    def logits(self, ids: list[int]) -> np.ndarray:
        """Returns the int8 logits (L,) of token ids without padding."""
        # The inputs' memory is reused while the graph runs, so both are set every time.
        self._interpreter.set_input(model_folder.pad(ids, self._length), 0)
        if self._pair:
            segments = tokenizer_lib.segment_ids(ids)
            self._interpreter.set_input(model_folder.pad(segments, self._length), 1)
        self._interpreter.invoke()
        return np.array(self._interpreter.get_output(0)).reshape(-1)


def _start(tflite: bytes, max_length: int, pair: bool):
    _state["runner"] = Runner(tflite, max_length, pair)


def _run(batch: list[list[int]]) -> np.ndarray:
    return np.stack([_state["runner"].logits(ids) for ids in batch])


def run_all(folder: model_folder.ModelFolder, sequences: list[list[int]]) -> np.ndarray:
    """Returns int8 logits (count, L) of every sequence.

    Args:
      folder: The model.
      sequences: Token ids of each text, without padding.
    """
    if not sequences:
        return np.zeros((0, max(len(folder.labels), 1)), np.int8)
    arguments = (folder.tflite, folder.max_length, folder.pair)
    workers = min(os.cpu_count() or 1, len(sequences))
    if workers == 1 or len(sequences) < 8:
        runner = Runner(*arguments)
        return np.stack([runner.logits(ids) for ids in sequences])
    batches = [sequences[start : start + 16] for start in range(0, len(sequences), 16)]
    # Spawned, not forked: the caller may have TensorFlow's threads running.
    with concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start, arguments
    ) as pool:
        return np.concatenate(list(pool.map(_run, batches)))
