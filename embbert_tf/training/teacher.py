"""Trained runs as a teacher: what they say of texts, on average, as soft labels.

The mean of several runs knows more than each of them ("Distilling the Knowledge in a Neural
Network", Hinton et al., arXiv 1503.02531, section 5), and a model that learns it from many texts
keeps most of that. A linear model may be among them (`linear_teacher`).
"""

import pathlib
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from embbert_tf import errors
from embbert_tf.data import csv_files, encoding, files, plain_text
from embbert_tf.data import examples as examples_lib
from embbert_tf.data.examples import Example
from embbert_tf.data.files import PathLike
from embbert_tf.storage import run_folder
from embbert_tf.storage.run_folder import Run
from embbert_tf.training import metrics
from embbert_tf.training.linear_teacher import LinearTeacher

_AT_ONCE = 20_000  # Texts between two lines of progress.
_DECIMALS = 5
_SCORE = "score"


def label_texts(
    runs: Sequence[PathLike],
    inputs: Sequence[PathLike],
    output: PathLike,
    report: Callable[[str], None] = lambda line: None,
    linear: PathLike | None = None,
    linear_share: float = 0.5,
    valid: PathLike | None = None,
) -> int:
    """Writes the mean of what runs say of texts, for `TrainOptions.soft_labels`.

    Example:
    ```python
    from embbert_tf.training.teacher import label_texts

    label_texts(["build/run"], ["corpus.txt", "train.csv"], "build/soft.csv.gz")
    ```

    Args:
        runs: Folders of finished runs of one task, with the same labels.
        inputs: Files of texts: `.csv` and `.csv.gz` as for training, whose labels are not looked
            at; others plain or `.gz`, a text a line, for runs that read single texts.
        output: CSV to write, compressed if it ends in `.gz`.
        report: Called with a line of progress.
        linear: Training CSV of the runs; a linear model learns from it and teaches with them.
        linear_share: Of that model in the mean, above 0 and below 1; the runs share the rest.
        valid: Labelled CSV; what each teacher and the mean make of it is reported, no more.

    Returns:
        How many texts there are.

    Raises:
        CorpusError, DataError: A file cannot be read, or holds pairs where the runs read single
            texts or the other way round, or there is no text, or `linear` or `valid` has
            other labels.
        FileError: `output` cannot be written.
        OptionError: `linear_share` is out of its range.
        RunError: A run cannot be used, or is of another task or other labels than the first.
    """
    files.check_target(output)
    if linear is not None and not 0 < linear_share < 1:
        raise errors.OptionError(f"linear_share={linear_share:g}: must be above 0 and below 1")
    teachers = _load_alike(runs)
    first = teachers[0]
    rows = _read(inputs, first)
    measured = _Measured(valid, first, report)
    one_more = _linear(linear, first, report) if linear is not None else None
    asked = rows + measured.rows
    means = np.zeros((len(asked), max(len(first.labels), 1)))
    for number, run in enumerate(teachers, 1):
        said = _all_said(partial(_said, run), asked, f"run {number} of {len(teachers)}", report)
        measured.tell(str(run.path), said)
        means += said / len(teachers)
    if one_more is not None:
        said = _all_said(one_more.says, asked, "linear model", report)
        measured.tell("linear model", said)
        means = (1 - linear_share) * means + linear_share * said
    measured.tell("mean", means)
    _write(output, rows, means[: len(rows)], first)
    return len(rows)


class _Measured:
    """Labelled rows, the last ones that teachers are asked of; none without a file."""

    def __init__(self, path: PathLike | None, run: Run, report: Callable[[str], None]):
        self.rows = examples_lib.read_all(path, run.pair) if path is not None else []
        self._targets = encoding.targets_of(self.rows, run.labels, path or "")
        self._labels, self._report = run.labels, report

    def tell(self, who: str, said: np.ndarray) -> None:
        """Reports what is right of what a teacher says, (count, L) or (count, 1)."""
        if self.rows:
            of_these = said[-len(self.rows) :]
            name, value = metrics.main_metric(of_these, self._targets, self._labels)
            self._report(f"{who}: validation {name} {value:.4f}")


def _linear(path: PathLike, run: Run, report: Callable[[str], None]) -> LinearTeacher:
    """Returns the linear model of a run's task."""
    rows = examples_lib.read_all(path, run.pair)
    report(f"linear model: learns from {len(rows):,} texts of {path}")
    return LinearTeacher(rows, run.labels, path)


def _write(path: PathLike, rows: Sequence[Example], said: np.ndarray, run: Run) -> None:
    """Writes what is said of texts, for a task as a run has it."""
    texts = [[row.text, row.text_pair] if run.pair else [row.text] for row in rows]
    header = ["text", *(["text_pair"] if run.pair else []), *(run.labels or [_SCORE])]
    values = np.round(said, _DECIMALS).tolist()
    csv_files.write_rows(path, header, ([*t, *v] for t, v in zip(texts, values, strict=True)))


def _load_alike(paths: Sequence[PathLike]) -> list[Run]:
    """Returns runs of one task with the same labels, one at least.

    Raises:
        RunError: They are not.
    """
    if not paths:
        raise errors.RunError("no runs; give at least one")
    runs = [run_folder.load_run(path) for path in paths]
    first = runs[0]
    for run in runs:
        if run.task == "encoder":
            raise errors.RunError(f"{run.path}: an encoder, which has no labels to give")
        if (run.task, run.pair, run.labels) != (first.task, first.pair, first.labels):
            raise errors.RunError(
                f"{run.path}: of another task or with other labels than {first.path}"
            )
    return runs


def _read(inputs: Sequence[PathLike], run: Run) -> list[Example]:
    """Returns the texts of all files, each once, in their order."""
    rows: dict[tuple[str, str | None], Example] = {}
    for path in inputs:
        if pathlib.Path(path).name.removesuffix(".gz").endswith(".csv"):
            found = examples_lib.read_all(path, run.pair)
        elif run.pair:
            raise errors.DataError(
                f"{path}: texts a line, and the runs read pairs; give a CSV with text_pair"
            )
        else:
            found = [Example(text, None, "") for text in plain_text.read_documents([path])]
        for row in found:
            rows.setdefault((row.text, row.text_pair), row)
    if not rows:
        raise errors.DataError(f"{', '.join(map(str, inputs)) or 'no file'}: no text")
    return list(rows.values())


def _all_said(
    says: Callable[[Sequence[Example]], np.ndarray],
    rows: Sequence[Example],
    who: str,
    report: Callable[[str], None],
) -> np.ndarray:
    """Returns what a teacher says of rows, asked of some at a time; reports how far it is."""
    start, said = time.monotonic(), []
    for begin in range(0, len(rows), _AT_ONCE):
        said.append(says(rows[begin : begin + _AT_ONCE]))
        done = min(begin + _AT_ONCE, len(rows))
        left = (time.monotonic() - start) / done * (len(rows) - done)
        report(f"{who}: {done:,} of {len(rows):,} texts, {left:.0f} s left")
    return np.concatenate(said)


def _said(run: Run, rows: Sequence[Example]) -> np.ndarray:
    """Returns probabilities (count, L), or scores (count, 1)."""
    from embbert_tf.data import batches
    from embbert_tf.training import distillation

    ids = encoding.encode_all(run.tokenizer, rows, run.pair, run.config.max_length)
    logits = batches.predict(run.model, ids)
    return distillation.softmax(logits) if run.labels else logits
