"""The metrics of the GLUE paper and of classification; libraries compute them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embbert_tf.training import embedding_targets

_MOST_ROWS = 40  # of a table


def classification(
    logits: np.ndarray, targets: np.ndarray, labels: Sequence[str]
) -> dict[str, Any]:
    """Returns accuracy, macro-F1, for two classes also Matthews and F1s, and a table by class.

    Args:
        logits: (count, L).
        targets: (count,) class indices.
        labels: Names of the classes.
    """
    from sklearn import metrics

    predicted = logits.argmax(axis=1)
    numbers = list(range(len(labels)))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        targets, predicted, labels=numbers, zero_division=0
    )
    result = {
        "accuracy": float(metrics.accuracy_score(targets, predicted)),
        "macro_f1": float(np.mean(f1)),
        "count": len(targets),
        "classes": {
            label: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "count": int(support[i]),
            }
            for i, label in enumerate(labels)
        },
    }
    if len(labels) == 2:
        result["weighted_f1"] = float(np.average(f1, weights=support))
        result["matthews"] = float(metrics.matthews_corrcoef(targets, predicted))
        result["f1"] = float(metrics.f1_score(targets, predicted, pos_label=1))
    return result


def regression(values: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Returns Pearson and Spearman correlations; 0 where all values or all targets are the same.

    Args:
        values: (count, 1) or (count,) predictions, in any unit.
        targets: (count,) scores, in any unit.
    """
    from scipy import stats

    values = np.asarray(values, np.float64).reshape(len(targets), -1)[:, 0]
    targets = np.asarray(targets, np.float64)
    constant = np.ptp(values) == 0 or np.ptp(targets) == 0
    return {
        "pearson": 0.0 if constant else float(stats.pearsonr(values, targets).statistic),
        "spearman": 0.0 if constant else float(stats.spearmanr(values, targets).statistic),
        "count": len(targets),
    }


def main_metric(
    logits: np.ndarray, targets: np.ndarray, labels: Sequence[str]
) -> tuple[str, float]:
    """Returns the name and the value of the one number by which answers are better than others.

    Args:
        logits: (count, L) of classes, or probabilities; (count, 1) scores of a regression.
        targets: (count,) class indices, or scores.
        labels: Names of the classes; empty for a regression.
    """
    if labels:
        return "accuracy", classification(logits, targets, labels)["accuracy"]
    # Spearman's alone is the same for answers in any unit, and so for a model far from its scores.
    measured = regression(logits, targets)
    return "correlation", (measured["pearson"] + measured["spearman"]) / 2


def table(result: dict[str, Any]) -> str:
    """Returns the table by class of what `classification` returned, as text.

    Of many classes those of the lowest F1 are shown.
    """
    classes = result.get("classes", {})
    shown = list(classes)
    if len(shown) > _MOST_ROWS:
        worst = sorted(shown, key=lambda label: classes[label]["f1"])[:_MOST_ROWS]
        shown = [label for label in shown if label in set(worst)]
    width = max([len("class"), *map(len, shown)])
    lines = [f"{'class':<{width}}  precision  recall      f1   count"]
    for label in shown:
        row = classes[label]
        lines.append(
            f"{label:<{width}}  {row['precision']:9.3f}  {row['recall']:6.3f}  {row['f1']:6.3f}"
            f"  {row['count']:6d}"
        )
    if len(shown) < len(classes):
        lines.append(f"and {len(classes) - len(shown)} classes with a higher F1")
    return "\n".join(lines)


def show(measured: dict[str, Any]) -> None:
    """Prints the figures of the test rows, or without them of the validation rows.

    Args:
        measured: What a stage has in `metrics.json`: "valid", and "test" if there was one.
    """
    tested = "test" in measured
    name, result = ("test", measured["test"]) if tested else ("validation", measured["valid"])
    for key, value in result.items():
        if isinstance(value, float):
            print(f"{name} {key} {value:.4f}", flush=True)


def measure(
    model: Any,
    data: tuple[list[list[int]], np.ndarray],
    labels: Sequence[str],
) -> dict[str, Any]:
    """Returns the metrics of a model on labelled rows.

    Args:
        model: A Keras model from ids to logits.
        data: Token ids, and (count,) class indices or scores; of an encoder a teacher's rows,
            (count, width).
        labels: Class names; empty for a regression.
    """
    from embbert_tf.data import batches

    logits = batches.predict(model, data[0])
    if np.ndim(data[1]) == 2:
        cosine = embedding_targets.mean_cosine(logits, data[1])
        return {"cosine": cosine, "count": len(data[1])}
    if labels:
        return classification(logits, data[1], labels)
    return regression(logits, data[1])


def measure_parts(
    model: Any,
    history: list[dict[str, Any]],
    parts: Mapping[str, tuple[list[list[int]], np.ndarray]],
    labels: Sequence[str],
) -> dict[str, Any]:
    """Returns what `metrics.json` says of a stage of a run.

    Args:
        model: A Keras model from ids to logits, trained.
        history: From `fit`.
        parts: By name, "valid" and maybe "test", the `data` of `measure`.
        labels: Class names; empty for a regression.
    """
    return {"history": history} | {n: measure(model, data, labels) for n, data in parts.items()}
