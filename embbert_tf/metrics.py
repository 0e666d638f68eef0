"""Figures of merit and their table."""

import numpy as np
from scipy import stats
from sklearn import metrics as sklearn_metrics


def classification(targets: np.ndarray, predicted: np.ndarray, labels: list[str]) -> dict:
    """Computes accuracy, macro-F1 and a table per class.

    Args:
        targets: int (count,).
        predicted: int (count,).
        labels: Class names.

    Returns:
        `count, accuracy, macro_f1` and `per_class`: label to `precision, recall, f1, support`.
        Fractions, not percentages. A class that is never predicted has precision 0. Macro-F1 is the
        mean over the classes that occur in `targets` or `predicted`.
    """
    indices = list(range(len(labels)))
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        targets, predicted, labels=indices, zero_division=0
    )
    present = np.union1d(targets, predicted)
    return {
        "count": len(targets),
        "accuracy": float(np.mean(targets == predicted)),
        "macro_f1": float(np.mean(f1[present])),
        "per_class": {
            label: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, label in enumerate(labels)
        },
    }


def regression(targets: np.ndarray, predicted: np.ndarray) -> dict:
    """Computes `count`, `mse`, and the Pearson and Spearman correlations."""
    return {
        "count": len(targets),
        "mse": float(np.mean((targets - predicted) ** 2)),
        "pearson": float(stats.pearsonr(targets, predicted)[0]),
        "spearman": float(stats.spearmanr(targets, predicted)[0]),
    }


def evaluate(logits: np.ndarray, examples) -> dict:
    """Compares logits (count, L) with an `EncodedExamples`; see the functions above."""
    if examples.labels:
        return classification(examples.targets, logits.argmax(axis=1), examples.labels)
    return regression(examples.targets, logits[:, 0])


def table(result: dict) -> str:
    """Lays the figures out for a terminal."""
    if "per_class" not in result:
        return "  ".join(f"{name} {result[name]:.4f}" for name in ("mse", "pearson", "spearman"))
    width = max(5, *(len(label) for label in result["per_class"]))
    lines = [f"{'class':{width}}  precision  recall      F1  count"]
    lines += [
        f"{label:{width}}  {row['precision']:9.3f}  {row['recall']:6.3f}  {row['f1']:6.3f}"
        f"  {row['support']:5d}"
        for label, row in result["per_class"].items()
    ]
    lines.append(
        f"accuracy {100 * result['accuracy']:.2f} %, macro-F1 {100 * result['macro_f1']:.2f} %, "
        f"{result['count']} texts"
    )
    return "\n".join(lines)
