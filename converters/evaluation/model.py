"""A converted model as a library object: it answers, measures itself and saves itself."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np
from scipy import special

from converters.evaluation import labelled_rows
from converters.tflite import model_folder
from converters.tflm import runner
from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.data.files import PathLike


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model says of one text.

    Attributes:
        label: The most probable label; None from a regression.
        score: The score in the unit of the training data; None from a classifier.
        confidence: Probability of the label; None from a regression.
        probabilities: Probability of every label, in the model's order; empty from a regression.
        unsure: Whether the confidence lies below the model's threshold.
    """

    label: str | None
    score: float | None
    confidence: float | None
    probabilities: dict[str, float]
    unsure: bool


@dataclasses.dataclass(frozen=True)
class Model(model_folder.ModelFolder):
    """A full-int8 model on the real TFLM interpreter; made by `convert`, or read by `load_model`.

    Example:
    ```python
    import converters

    model = converters.load_model("build/model")
    model.classify("start the fan").label  # "on"
    model.evaluate("test.csv")  # {"accuracy": 0.98, ...}
    ```
    """

    @functools.cached_property
    def _runner(self) -> runner.Runner:
        return runner.Runner(self.tflite, self.max_length, self.pair)

    def classify(self, text: str, text_pair: str | None = None) -> Answer:
        """Returns the answer to one text, or to a pair of texts.

        Args:
            text: Any text; what exceeds the graph's length is cut off.
            text_pair: The second text, for a model of pairs.

        Raises:
            DataError: A text is missing, or there is one too many; or the model is an encoder,
                which answers when it has learnt labels (`rows`, `converters.kernels.labels`).
        """
        if self.task == "encoder":
            raise errors.DataError(
                "the model is an encoder and has no labels of its own; converters.kernels.labels "
                "learns some from its rows"
            )
        if not text.strip() or (text_pair is not None and not text_pair.strip()):
            raise errors.DataError("the text is empty; give at least one word")
        if self.pair != (text_pair is not None):
            raise errors.DataError(
                "the model reads pairs of texts; give text_pair, too"
                if self.pair
                else "the model reads single texts; leave text_pair out"
            )
        real = self.dequantize(self._runner.logits(self.encode(text, text_pair)))
        if not self.labels:
            return Answer(None, float(real[0]), None, {}, False)
        probabilities = special.softmax(real)
        best = int(real.argmax())
        confidence = float(probabilities[best])
        return Answer(
            label=self.labels[best],
            score=None,
            confidence=confidence,
            probabilities=dict(zip(self.labels, map(float, probabilities), strict=True)),
            unsure=confidence < float(self.settings.get("confidence_threshold", 0.0)),
        )

    def rows(self, texts: Sequence[str], workers: int = 0) -> np.ndarray:
        """Returns an encoder's rows of texts, as `converters.kernels.labels` takes them.

        Args:
            texts: Any texts; what exceeds the graph's length is cut off.
            workers: Processes; 0 for one a core.

        Returns:
            int64 (count, width): the logits less their zero point.
        """
        progress = runner.Progress("rows", len(texts))
        logits = runner.run_all(self, [self.encode(text) for text in texts], workers, progress)
        return logits.astype(np.int64) - int(self.settings["output"]["zero_point"])

    def evaluate(
        self,
        csv: PathLike,
        limit: int = 0,
        seed: int = 0,
        workers: int = 0,
        logits_file: PathLike | None = None,
    ) -> dict:
        """Measures the model on labelled text, with the real TFLM interpreter.

        Args:
            csv: A `.csv` or `.csv.gz` file with the columns of the training data.
            limit: Rows to take, drawn at random; 0 takes all.
            seed: Of the draw.
            workers: Processes; 0 for one a core.
            logits_file: Where to write the int8 logits (rows, L), too: a `.npy` file.

        Returns:
            The task's metrics: `accuracy`, `macro_f1`, `count` and a table by class, or `pearson`,
            `spearman` and `count`.

        Raises:
            DataError: The file cannot be used with this model.
            FileError: `logits_file` cannot be written.
        """
        sequences, targets = labelled_rows.read_rows(self, csv, limit, seed)
        progress = runner.Progress("evaluate", len(sequences))
        logits = runner.run_all(self, sequences, workers, progress)
        if logits_file is not None:
            files.write_atomic(logits_file, lambda path: _write_array(path, logits))
        return self.metrics(logits, targets)

    def metrics(self, logits: np.ndarray, targets: np.ndarray) -> dict:
        """Returns the task's metrics.

        Args:
            logits: int8 (count, L).
            targets: Class indices (count,), or scores.
        """
        from embbert_tf.training import metrics

        real = self.dequantize(logits)
        if self.labels:
            return metrics.classification(real, targets, self.labels)
        return metrics.regression(real, targets)

    def dequantize(self, logits: np.ndarray) -> np.ndarray:
        """Returns int8 logits as float64 of the same shape, in the unit of the float model."""
        output = self.settings["output"]
        return (logits.astype(np.float64) - output["zero_point"]) * output["scale"]


def _write_array(path: pathlib.Path, values: np.ndarray) -> None:
    with open(path, "wb") as file:  # np.save by name would add an ending
        np.save(file, values)


def load_model(path: PathLike) -> Model:
    """Reads a model folder.

    Example:
    ```python
    print(load_model("build/model").classify("start the fan"))
    ```

    Args:
        path: The folder, or the `.tflite` in it.

    Raises:
        ModelFolderError: Something is missing, unreadable or does not belong together.
    """
    return Model.load(path)
