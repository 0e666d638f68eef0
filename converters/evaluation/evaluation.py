"""One data set through every form of one run: Keras, TFLM, the fused kernels."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy import special

from converters.evaluation import labelled_rows
from converters.evaluation.model import Model
from converters.kernels import recognize, reference
from converters.tflite import model_folder
from converters.tflm import runner
from embbert_tf import errors
from embbert_tf.data import encoding, tokenizer
from embbert_tf.data import examples as examples_lib
from embbert_tf.data.files import PathLike
from embbert_tf.storage import run_folder
from embbert_tf.training import metrics as metrics_lib

_KEPT_RIGHT_ANSWERS = 0.99


class _Fused:
    """The fused kernels' arithmetic, with the interface of `runner.Runner`."""

    def __init__(self, tflite: bytes, pair: bool):
        self._reference = reference.Reference(recognize.extract(tflite))
        self._pair = pair

    def logits(self, ids: list[int]) -> np.ndarray:
        """Returns the int8 logits (L,) of token ids without padding."""
        segments = np.array(tokenizer.segment_ids(ids)) if self._pair else None
        return self._reference.infer(ids, segments)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Labelled rows for the models of one run.

    Keras models get as many tokens of a text as the run's longest sequence, int8 models as many as
    their graph takes: what a shorter graph cuts off counts as its error.

    Attributes:
        run: The run.
        examples: Rows.
        path: The file they came from, for messages.
        name: For progress lines.
        workers: Processes for int8 models; 0 for as many as there are cores.
        targets: Class index, or score, of every row.

    Raises:
        DataError: The rows do not suit the run.
    """

    run: run_folder.Run
    examples: list[examples_lib.Example]
    path: str
    name: str
    workers: int = 0
    targets: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self):
        if self.run.pair and any(e.text_pair is None for e in self.examples):
            raise errors.DataError(f"{self.path}: {self.run.path} takes pairs; no text_pair here")
        object.__setattr__(
            self, "targets", encoding.targets_of(self.examples, self.run.labels, self.path)
        )

    def sequences(self, max_length: int) -> list[list[int]]:
        """Returns the token ids of every row."""
        return encoding.encode_all(self.run.tokenizer, self.examples, self.run.pair, max_length)

    def keras(self, model: Any) -> np.ndarray:
        """Returns float32 logits (count, L) of a Keras model."""
        from embbert_tf.data import batches

        limit = self.run.config.max_length
        return batches.predict(model, self.sequences(limit))

    def tflm(self, tflite: bytes, max_length: int, what: str) -> np.ndarray:
        """Returns int8 logits (count, L) of a `.tflite` on TFLM."""
        arguments = (tflite, max_length, self.run.pair)
        return self._run(runner.Runner, arguments, max_length, f"{what} on TFLM")

    def fused(self, tflite: bytes, max_length: int) -> np.ndarray:
        """Returns int8 logits (count, L) of a portable `.tflite` computed by the fused kernels.

        Raises:
            KernelParamsError: The kernels cannot represent the model.
        """
        progress = runner.Progress(f"{self.name}: fused kernels", len(self.examples))
        return fused_logits(
            tflite, self.run.pair, self.sequences(max_length), self.workers, progress
        )

    def metrics(self, logits: np.ndarray) -> dict[str, float]:
        """Returns the metrics of logits: no table by class."""
        # A positive scale and an offset change none of the metrics: int8 logits do as they are.
        if self.run.labels:
            result = metrics_lib.classification(logits, self.targets, self.run.labels)
        else:
            result = metrics_lib.regression(logits, self.targets)
        return {key: value for key, value in result.items() if isinstance(value, float)}

    def agreement(self, one: np.ndarray, other: np.ndarray) -> float:
        """Returns the share of rows with the same label; of a regression, Pearson's correlation."""
        if self.run.labels:
            return float(np.mean(one.argmax(axis=1) == other.argmax(axis=1)))
        return metrics_lib.regression(one, other.astype(np.float64)[:, 0])["pearson"]

    def _run(self, make: Callable, arguments: tuple, max_length: int, what: str) -> np.ndarray:
        progress = runner.Progress(f"{self.name}: {what}", len(self.examples))
        sequences = self.sequences(max_length)
        return runner.run_with(make, arguments, sequences, self.workers, progress)


def fused_logits(
    tflite: bytes,
    pair: bool,
    sequences: list[list[int]],
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Returns int8 logits (count, L) of a portable `.tflite` computed by the fused kernels.

    Args:
        tflite: The file's bytes.
        pair: Whether the model reads pairs.
        sequences: Token ids of each text, without padding; at least one.
        workers: Processes; 0 for as many as there are cores.
        progress: Called with the number of finished sequences now and then.

    Raises:
        KernelParamsError: The kernels cannot represent the model.
    """
    return runner.run_with(_Fused, (tflite, pair), sequences, workers, progress)


def confidence_threshold(model: Model, path: PathLike) -> float:
    """Returns the confidence below which an answer is called unsure.

    It is the one that keeps 99 % of the right answers on validation data.

    Args:
        model: A converted classifier.
        path: Validation CSV.

    Raises:
        DataError: The file cannot be used with this model.
    """
    sequences, targets = labelled_rows.read_rows(model, path)
    logits = runner.run_all(model, sequences)
    confidence = special.softmax(model.dequantize(logits), axis=1).max(axis=1)
    right = logits.argmax(axis=1) == targets
    if not right.any():
        return 0.0
    return float(np.quantile(confidence[right], 1 - _KEPT_RIGHT_ANSWERS))


def check_logits(
    folder: model_folder.ModelFolder, texts: Iterable[tuple[str, str | None]]
) -> list[list[int]]:
    """Returns int8 logits on TFLM of pairs of texts; a model of single texts gets the first."""
    sequences = [folder.encode(text, pair if folder.pair else None) for text, pair in texts]
    return runner.run_all(folder, sequences, workers=1).astype(int).tolist()


def validation_csv(run_path: PathLike, given: str | None) -> str:
    """Returns the CSV of validation rows: the given one, else the run's own.

    Raises:
        DataError: The run has none either.
    """
    path = given or str(pathlib.Path(run_path) / examples_lib.VALID_CSV)
    if not pathlib.Path(path).exists():
        raise errors.DataError(
            f"{path}: no such file; give the validation rows with --valid=CSV"
            if given is None
            else f"{path}: no such file"
        )
    return path
