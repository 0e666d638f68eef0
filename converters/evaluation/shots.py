"""What an encoder learns from few sentences a label: accuracy, and what it turns away.

An encoder is taught `count` sentences of each label, drawn from training rows, and answers the
validation rows, in the device's integers (`converters.kernels.labels`) or on the device. Of other
talk it is asked by leaving labels out: taught all labels but one, it should be unsure of the texts
of that one.
"""

import dataclasses
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from converters.evaluation import board, labelled_rows
from converters.evaluation.model import Model
from converters.kernels import labels as labels_lib
from embbert_tf import errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data.files import PathLike

KEPT = 0.9  # of the texts of taught labels
_CALIBRATION_SHOTS = 10
_DRAWS = 3


@dataclasses.dataclass(frozen=True)
class Texts:
    """Labelled texts and an encoder's rows of them.

    Attributes:
        rows: int64 (count, width), as `Model.rows` returns them.
        labels: Of each text, its label, (count,) of strings.
    """

    rows: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Result:
    """One draw of sentences.

    Attributes:
        accuracy: Share of the validation texts with the right nearest label, sure or not.
        sure: Share of the validation texts that the model's own threshold keeps.
        rejected: Share of a left-out label's texts below the cosine that keeps 90 % of the others,
            mean of all labels.
        rejected_by_model: The same below the model's own threshold.
    """

    accuracy: float
    sure: float
    rejected: float
    rejected_by_model: float


def draw(labels: Sequence[str], count: int, seed: int) -> list[int]:
    """Returns the indices of `count` texts of each label, of a label's fewer texts all.

    Args:
        labels: Of each text, its label.
        count: Texts a label.
        seed: Of the draw.
    """
    random = np.random.default_rng(seed)
    places = np.asarray(labels)
    chosen = []
    for label in sorted(set(labels)):
        own = np.flatnonzero(places == label)
        chosen += [int(i) for i in random.permutation(own)[:count]]
    return chosen


def _numbers(labels: Sequence[str]) -> dict[str, str]:
    """Returns what a device calls each label: names of a data set may be longer than its own."""
    return {label: str(number) for number, label in enumerate(dict.fromkeys(labels))}


def taught(rows: np.ndarray, labels: Sequence[str]) -> labels_lib.Labels:
    """Returns the labels that an encoder has after these sentences, called by their numbers.

    Args:
        rows: int64 (count, width), of each sentence.
        labels: Of each, its label.

    Raises:
        LabelError: A label cannot be learnt.
    """
    table, numbers = labels_lib.Labels(rows.shape[1]), _numbers(labels)
    for row, label in zip(rows, labels, strict=True):
        table.learn(numbers[label], row)
    return table


def on_board(
    device: board.Board,
    zero_point: int,
    sentences: Sequence[examples_lib.Example],
    valid: Sequence[examples_lib.Example],
    folder: pathlib.Path,
) -> tuple[labels_lib.Labels, Texts]:
    """Teaches an emulated board the sentences at its prompt, and lets it answer a file of texts.

    Args:
        device: With a converted encoder.
        zero_point: Of the encoder's output.
        sentences: What is taught.
        valid: What is asked; of the same labels.
        folder: For the board's files.

    Returns:
        The labels as the board saved them, and the rows that it computed of the texts.

    Raises:
        BoardError: The firmware cannot be built or run, refuses a sentence, or answers otherwise
            than its own labels and rows say.
    """
    numbers = _numbers([e.label for e in sentences])
    table_file, csv, logits = (folder / name for name in ("labels", "asked.csv", "logits"))
    table_file.unlink(missing_ok=True)
    variables = {"LABELS": table_file, "MAX_LABELS": len(numbers)}
    lines = [f":learn {numbers[e.label]} {' '.join(e.text.split())}" for e in sentences]
    said = device.type([*lines, ":save"], **variables)
    learnt = re.findall(r"^> \d+: \d+ sentences?\r?$", said, re.M)
    if len(learnt) != len(sentences) or not table_file.is_file():
        raise board.BoardError(f"{device.target} has not learnt every sentence:\n{said}")
    table = labels_lib.Labels.from_bytes(table_file.read_bytes())
    named = [dataclasses.replace(e, label=numbers[e.label]) for e in valid]
    examples_lib.write_csv(csv, named)
    figures = device.evaluate(csv, logits, len(valid), **variables)
    rows = board.read_logits(logits, len(valid), table.width).astype(np.int64) - zero_point
    names = list(table.sums)
    right = sum(
        names[table.cosines(row).argmax()] == e.label for row, e in zip(rows, named, strict=True)
    )
    if figures["correct"] != right:
        raise board.BoardError(
            f"{device.target}: {figures['correct']} right answers, and {right} by its own rows"
        )
    return table, Texts(rows, np.array([e.label for e in valid]))


def measure(table: labels_lib.Labels, names: Sequence[str], valid: Texts, threshold: int) -> Result:
    """Asks for the validation texts.

    Args:
        table: Of the labels that were taught.
        names: What the data set calls them, in their order.
        valid: What is asked; texts of labels that are not taught are left out.
        threshold: The model's own, a cosine in 1/10000.
    """
    names = list(names)
    asked = np.isin(valid.labels, names)
    cosines = np.stack([table.cosines(row) for row in valid.rows[asked]])
    truth = np.array([names.index(label) for label in valid.labels[asked]])
    rejected, by_model = [], []
    for left_out in range(len(names)):
        best = np.delete(cosines, left_out, axis=1).max(axis=1)
        other = truth == left_out
        if not other.any() or other.all():
            continue
        rejected.append(np.mean(best[other] < np.quantile(best[~other], 1 - KEPT)))
        by_model.append(np.mean(best[other] < threshold))
    return Result(
        accuracy=float(np.mean(cosines.argmax(axis=1) == truth)),
        sure=float(np.mean(cosines.max(axis=1) >= threshold)),
        rejected=float(np.mean(rejected)),
        rejected_by_model=float(np.mean(by_model)),
    )


def threshold(model: Model, calibration: PathLike, validation: PathLike) -> float:
    """Returns the cosine that keeps 90 % of the validation texts.

    Every label is taught ten sentences of the calibration file, three times other ones.

    Args:
        model: A converted encoder.
        calibration: CSV of labelled sentences to teach.
        validation: CSV of labelled sentences to ask for.

    Raises:
        DataError: A file cannot be used, or they have no label in common.
    """
    teaching = labelled_rows.read_sample(calibration)
    asked = labelled_rows.read_sample(validation)
    known = {example.label for example in teaching}
    rows = model.rows([example.text for example in asked if example.label in known])
    if not len(rows):
        raise errors.DataError(f"{validation}: has no label in common with {calibration}")
    found = []
    for seed in range(_DRAWS):
        chosen = draw([e.label for e in teaching], _CALIBRATION_SHOTS, seed)
        sentences = [teaching[i] for i in chosen]
        table = taught(model.rows([e.text for e in sentences]), [e.label for e in sentences])
        found += [int(table.cosines(row).max()) for row in rows]
    return max(0.0, float(np.quantile(found, 1 - KEPT)) / labels_lib.CONFIDENCE_ONE)
