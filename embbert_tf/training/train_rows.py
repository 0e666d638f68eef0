"""Reads every row that a training learns from or is measured on, and checks it."""

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np

from embbert_tf import errors
from embbert_tf.data import encoding, soft_labels
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import labels as labels_lib
from embbert_tf.data.examples import Example
from embbert_tf.data.files import PathLike
from embbert_tf.training import score_scale
from embbert_tf.training.options import TrainOptions
from embbert_tf.training.score_scale import ScoreScale

_HELD_OUT = 0.1  # of the training rows, where there is no validation file


@dataclasses.dataclass(frozen=True)
class Rows:
    """All rows of a training, read whole and checked.

    Attributes:
        labels: Class names; empty for a regression.
        pair: Whether the texts are pairs.
        train: Rows to learn from.
        valid: Rows that choose the epoch.
        test: Rows that are measured at the end, or none.
        targets: By name of the above, int64 class indices or float64 scores, (count,) each.
        more: Texts without a label, of which the teacher has an opinion.
        taught: float32 (rows of `train` and `more`, L) of the teacher, NaN where it says nothing;
            None without a teacher.
    """

    labels: list[str]
    pair: bool
    train: list[Example]
    valid: list[Example]
    test: list[Example]
    targets: dict[str, np.ndarray]
    more: list[Example]
    taught: np.ndarray | None


def read(
    train: PathLike, valid: PathLike | None, test: PathLike | None, options: TrainOptions
) -> Rows:
    """Reads every row of every file.

    Raises:
        DataError: One cannot be used.
    """
    rows = examples_lib.read_all(train)
    pair = rows[0].text_pair is not None
    labels = _label_names(rows, train, options)
    parts, origins = {"train": rows}, {"train": train}
    if valid is not None:
        parts["valid"], origins["valid"] = examples_lib.read_all(valid, pair), valid
    if test is not None:
        parts["test"], origins["test"] = examples_lib.read_all(test, pair), test
    for name, part in parts.items():
        encoding.targets_of(part, labels, origins[name])
    if valid is None:
        parts["train"], parts["valid"] = examples_lib.split(
            rows, _HELD_OUT, options.seed, scores=not labels
        )
        origins["valid"] = train
        if not parts["valid"]:
            raise errors.DataError(
                f"{train}: too few rows to hold some out for validation; give more, or a "
                "validation file"
            )
    targets = {n: encoding.targets_of(part, labels, origins[n]) for n, part in parts.items()}
    if not labels:
        _check_scores(targets, origins, options)
    more, taught = _taught(parts, labels, pair, options)
    tested = parts.get("test", [])
    return Rows(labels, pair, parts["train"], parts["valid"], tested, targets, more, taught)


def _label_names(rows: list[Example], path: PathLike, options: TrainOptions) -> list[str]:
    """Returns the classes, none of a regression; warns of those that look alike."""
    if options.task == "regression":
        return []
    labels = labels_lib.label_names(rows, path)
    for sentence in labels_lib.look_alike_labels(row.label for row in rows):
        _warn(sentence)
    return labels


def _warn(sentence: str) -> None:
    warnings.warn(sentence, errors.EmbBertWarning, stacklevel=5)


def _check_scores(
    targets: dict[str, np.ndarray], origins: dict[str, PathLike], options: TrainOptions
) -> None:
    """Makes sure that a regression can learn from its scores, and choose an epoch by them."""
    ScoreScale.of(targets["train"], origins["train"])
    if options.keep != "last" and np.ptp(targets["valid"]) == 0:
        count = len(targets["valid"])
        held = "of a validation file" if origins["valid"] is not origins["train"] else "held out"
        raise errors.DataError(
            f"{origins['valid']}: the {count} row{'s' if count > 1 else ''} {held} have one score, "
            "so they tell nothing of a model; give more rows, or keep the last epoch"
        )
    sentence = score_scale.coarse_in_int8(targets["train"])
    if sentence:
        _warn(sentence)


def _taught(
    parts: dict[str, list[Example]], labels: list[str], pair: bool, options: TrainOptions
) -> tuple[list[Example], np.ndarray | None]:
    """Returns (texts without a label, what the teacher says of the training texts and them)."""
    if not options.soft_labels:
        return [], None

    def keys(examples: Sequence[Example]) -> list[soft_labels.Key]:
        return [(e.text, e.text_pair) for e in examples]

    # Texts that measure stay unseen, even without their labels. Of pairs that is either text: what
    # makes more pairs of a task puts its texts together anew.
    measuring = {text for key in keys(parts["valid"] + parts.get("test", [])) for text in key}
    measuring.discard(None)
    soft = soft_labels.read_soft_labels(options.soft_labels, labels, pair)
    known = set(keys(parts["train"]))
    more = [Example(*key, "") for key in soft if key not in known and measuring.isdisjoint(key)]
    nothing = np.full(max(len(labels), 1), np.nan, np.float32)
    values = np.stack([soft.get(key, nothing) for key in keys(parts["train"] + more)])
    if np.isnan(values).all():
        raise errors.DataError(f"{options.soft_labels}: no text that may be trained on")
    return more, values
