"""What the page shows of answers: confusions, classes, wrong answers, scores, tensors."""

import dataclasses
from typing import Any

import numpy as np

from converters.evaluation.model import Model
from converters.page import answers as answers_lib
from converters.page.answers import Answers
from converters.report.fidelity import Fidelity, kinds_in_order, layer_of, rank_layers, split
from embbert_tf.data.examples import Example

# A matrix with more labels is drawn, not written.
MOST_WRITTEN = 24
_MOST_WRONG = 200
_MOST_CONFUSIONS = 40
_MOST_POINTS = 2000
_LONGEST_TEXT = 400


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Which label got which answer.

    Attributes:
        counts: (L, L) rows of a label with an answer.
        shares: The same as a share of the label's rows.
        frequent: (label, answer, rows, share of the label's rows), the most frequent first.
        wrong: Cells off the diagonal that are not empty: (label, answer, rows, share).
        more: How many more confusions there are than `frequent` names.
    """

    counts: list[list[int]]
    shares: list[list[float]]
    frequent: list[tuple[int, int, int, float]]
    wrong: list[tuple[int, int, int, float]]
    more: int


def confusion(targets: np.ndarray, logits: np.ndarray) -> Confusion:
    """Counts; targets (count,) class indices, logits (count, L)."""
    labels = logits.shape[1]
    counts = np.zeros((labels, labels), np.int64)
    np.add.at(counts, (targets, logits.argmax(axis=1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wrong = [
        (int(label), int(answer), int(counts[label, answer]), float(shares[label, answer]))
        for label, answer in np.argwhere(counts)
        if label != answer
    ]
    frequent = sorted(wrong, key=lambda cell: (-cell[2], -cell[3], cell[:2]))
    written = labels <= MOST_WRITTEN
    return Confusion(
        counts.tolist() if written else [],
        shares.tolist() if written else [],
        frequent[:_MOST_CONFUSIONS],
        wrong,
        max(len(frequent) - _MOST_CONFUSIONS, 0),
    )


def classes(model: Model, answers: Answers) -> list[dict[str, Any]]:
    """Returns name, precision, recall, F1 and rows of each class.

    The lowest F1 comes first, classes without rows last.
    """
    found = model.metrics(answers.logits, answers.targets)["classes"]
    rows = [{"name": name, **figures} for name, figures in found.items()]
    return sorted(rows, key=lambda row: (row["count"] == 0, row["f1"]))


def wrong_answers(model: Model, answers: Answers) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows answered wrongly, the most confident first, and how many there are."""
    predicted = answers.logits.argmax(axis=1)
    confidence = confidences(model, answers)
    threshold = float(model.settings.get("confidence_threshold", 0.0))
    wrong = np.flatnonzero(predicted != answers.targets)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")]
    rows = [
        {
            **_texts(answers.examples[n]),
            "label": model.labels[answers.targets[n]],
            "answer": model.labels[predicted[n]],
            "confidence": float(confidence[n]),
            "unsure": bool(confidence[n] < threshold),
        }
        for n in order[:_MOST_WRONG]
    ]
    return rows, len(wrong)


def confidences(model: Model, answers: Answers) -> np.ndarray:
    """Returns the confidence of each answer, (count,) in 0..1."""
    return answers_lib.confidences(answers.logits, float(model.settings["output"]["scale"]))


def certainty(model: Model, answers: Answers) -> dict[str, float]:
    """Returns the share of answers that are sure, and how many of those are right."""
    threshold = float(model.settings.get("confidence_threshold", 0.0))
    sure = confidences(model, answers) >= threshold
    right = answers.logits.argmax(axis=1) == answers.targets
    return {
        "threshold": threshold,
        "sure": float(sure.mean()),
        "right": float(right[sure].mean()) if sure.any() else 0.0,
    }


def scores(model: Model, answers: Answers) -> dict[str, Any]:
    """Returns points (true score, answer) to draw, and the rows that are farthest off."""
    real = model.dequantize(answers.logits)[:, 0]
    off = real - answers.targets
    order = np.argsort(-np.abs(off), kind="stable")[:_MOST_WRONG]
    drawn = np.arange(len(real))
    if len(real) > _MOST_POINTS:
        drawn = np.random.default_rng(0).choice(len(real), _MOST_POINTS, replace=False)
    return {
        "points": [(float(answers.targets[n]), float(real[n])) for n in drawn],
        "mean_error": float(np.abs(off).mean()),
        "rows": [
            {
                **_texts(answers.examples[n]),
                "score": float(answers.targets[n]),
                "answer": float(real[n]),
                "off": float(off[n]),
            }
            for n in order
        ],
    }


def _texts(example: Example) -> dict[str, Any]:
    """The texts of a row, their ends left out where they are long."""
    texts = [text for text in (example.text, example.text_pair) if text is not None]
    return {
        "texts": [t if len(t) <= _LONGEST_TEXT else t[:_LONGEST_TEXT] + "…" for t in texts],
        "whole": all(len(text) <= _LONGEST_TEXT for text in texts),
    }


def tensors(fidelity: dict[str, Fidelity]) -> dict[str, Any]:
    """Returns the error of each tensor as a grid of kinds and layers, and what loses most."""
    inner = [f for f in fidelity.values() if f.name not in ("x0", "logits")]
    layers = 1 + max(layer_of(f.name) for f in inner)
    kinds = kinds_in_order(f.name for f in inner)
    grid: dict[str, list[Fidelity | None]] = {kind: [None] * layers for kind in kinds}
    for f in inner:
        grid[split(f.name)[0]][layer_of(f.name)] = f
    return {
        "layers": layers,
        "grid": grid,
        "embedder": fidelity["x0"],
        "logits": fidelity["logits"],
        "losses": rank_layers(fidelity),
        "worst": sorted(fidelity.values(), key=lambda f: f.own_snr_db)[:12],
    }
