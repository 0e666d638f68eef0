"""Trained runs as a teacher: what they say of texts, on average, as soft labels.

The mean of several runs knows more than each of them ("Distilling the Knowledge in a Neural
Network", Hinton et al., arXiv 1503.02531, section 5), and a model that learns it from many texts
keeps most of that. A linear model may be among them (`linear_teacher`).
"""

import pathlib
import time
from collections.abc import Callable, Sequence

import numpy as np

from embbert_tf import errors
from embbert_tf.data import csv_files, encoding, files, plain_text
from embbert_tf.data import examples as examples_lib
from embbert_tf.data.examples import Example
from embbert_tf.data.files import PathLike
from embbert_tf.storage import run_folder
from embbert_tf.storage.run_folder import Run
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

    Returns:
        How many texts there are.

    Raises:
        CorpusError, DataError: A file cannot be read, or holds pairs where the runs read single
            texts or the other way round, or there is no text; or `linear` cannot be learnt from.
        FileError: `output` cannot be written.
        OptionError: `linear_share` is out of its range.
        RunError: A run cannot be used, or is of another task or other labels than the first.
    """
    files.check_target(output)
    if not runs:
        raise errors.RunError("no runs; give at least one")
    if linear is not None and not 0 < linear_share < 1:
        raise errors.OptionError(f"linear_share={linear_share:g}: must be above 0 and below 1")
    teachers = [run_folder.load_run(path) for path in runs]
    first = teachers[0]
    _check_alike(teachers)
    rows = _read(inputs, first)
    one_more = _linear(linear, first, report) if linear is not None else None
    sums = np.zeros((len(rows), max(len(first.labels), 1)))
    for number, run in enumerate(teachers, 1):
        start = time.monotonic()
        for begin in range(0, len(rows), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            sums[part] += _said(run, rows[part])
            done = min(begin + _AT_ONCE, len(rows))
            left = (time.monotonic() - start) / done * (len(rows) - done)
            report(
                f"run {number} of {len(runs)}: {done:,} of {len(rows):,} texts, {left:.0f} s left"
            )
    means = sums / len(teachers)
    if one_more is not None:
        report(f"linear model: reads {len(rows):,} texts")
        means = (1 - linear_share) * means + linear_share * one_more.says(rows)
    means = np.round(means, _DECIMALS)
    texts = [[row.text, row.text_pair] if first.pair else [row.text] for row in rows]
    header = ["text", *(["text_pair"] if first.pair else []), *(first.labels or [_SCORE])]
    csv_files.write_rows(
        output, header, ([*t, *m.tolist()] for t, m in zip(texts, means, strict=True))
    )
    return len(rows)


def _linear(path: PathLike, run: Run, report: Callable[[str], None]) -> LinearTeacher:
    """Returns the linear model of a run's task."""
    rows = examples_lib.read_all(path, run.pair)
    report(f"linear model: learns from {len(rows):,} texts of {path}")
    return LinearTeacher(rows, run.labels, path)


def _check_alike(teachers: Sequence[Run]) -> None:
    first = teachers[0]
    for run in teachers:
        if run.task == "encoder":
            raise errors.RunError(f"{run.path}: an encoder, which has no labels to give")
        if (run.task, run.pair, run.labels) != (first.task, first.pair, first.labels):
            raise errors.RunError(
                f"{run.path}: of another task or with other labels than {first.path}"
            )


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


def _said(run: Run, rows: Sequence[Example]) -> np.ndarray:
    """Returns probabilities (count, L), or scores (count, 1)."""
    from embbert_tf.data import batches
    from embbert_tf.training import distillation

    ids = encoding.encode_all(run.tokenizer, rows, run.pair, run.config.max_length)
    logits = batches.predict(run.model, ids)
    return distillation.softmax(logits) if run.labels else logits
