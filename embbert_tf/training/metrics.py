"""The metrics of the GLUE paper and of classification; libraries compute them."""

import numpy as np


def classification(logits: np.ndarray, targets, labels: list[str]) -> dict:
    """Returns accuracy, macro-F1, Matthews correlation (two classes) and a table by class.

    Args:
        logits: (count, L).
        targets: Class indices.
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
        result["matthews"] = float(metrics.matthews_corrcoef(targets, predicted))
        result["f1"] = float(metrics.f1_score(targets, predicted, pos_label=1))
    return result


def regression(values: np.ndarray, targets) -> dict:
    """Returns Pearson and Spearman correlations.

    Args:
        values: (count, 1) or (count,) predictions.
        targets: Scores.
    """
    from scipy import stats

    values = np.asarray(values, np.float64).reshape(len(targets), -1)[:, 0]
    constant = np.ptp(values) == 0
    return {
        "pearson": 0.0 if constant else float(stats.pearsonr(values, targets).statistic),
        "spearman": 0.0 if constant else float(stats.spearmanr(values, targets).statistic),
        "count": len(targets),
    }


def table(result: dict) -> str:
    """Returns the per-class table of `classification` as text."""
    classes = result.get("classes", {})
    width = max([len("class"), *map(len, classes)])
    lines = [f"{'class':<{width}}  precision  recall      f1   count"]
    for label, row in classes.items():
        lines.append(
            f"{label:<{width}}  {row['precision']:9.3f}  {row['recall']:6.3f}  {row['f1']:6.3f}"
            f"  {row['count']:6d}"
        )
    return "\n".join(lines)


def measure(model, data, labels, max_length) -> dict:
    """Returns the metrics of a model on (token ids, targets)."""
    from embbert_tf.data import batches

    logits = batches.predict(model, data[0], max_length)
    if labels:
        return classification(logits, data[1], labels)
    return regression(logits, data[1])
