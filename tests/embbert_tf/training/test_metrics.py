"""Metrics of classes and of scores."""

import numpy as np
import pytest

from embbert_tf.training import metrics


def test_classes():
    logits = np.eye(2, dtype=np.float32)[[0, 0, 1, 1, 1]]
    result = metrics.classification(logits, np.array([0, 1, 1, 1, 0]), ["no", "yes"])
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["f1"] == pytest.approx(2 / 3)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result["matthews"] == pytest.approx(1 / 6)
    # Weighted by the rows of each class, two and three.
    assert result["weighted_f1"] == pytest.approx((2 * 1 / 2 + 3 * 2 / 3) / 5)
    assert [row["count"] for row in result["classes"].values()] == [2, 3]


@pytest.mark.parametrize("factor, shift", [(1.0, 0.0), (1e6, -3e6), (1e-3, 5.0)])
def test_scores_of_any_unit(factor, shift):
    values = np.array([[1.0], [2.0], [3.0], [5.0]])
    result = metrics.regression(values * factor + shift, np.array([1.0, 3.0, 2.0, 9.0]))
    assert result["spearman"] == pytest.approx(0.8)
    assert result["pearson"] == pytest.approx(16.75 / (8.75 * 38.75) ** 0.5)


@pytest.mark.parametrize("values, targets", [([1, 1], [1, 2]), ([1, 2], [1, 1]), ([1], [2])])
def test_what_is_constant_correlates_with_nothing(values, targets):
    result = metrics.regression(np.array(values), np.array(targets))
    assert (result["pearson"], result["spearman"]) == (0.0, 0.0)


def test_a_table_of_many_classes_shows_the_worst():
    classes = {
        f"c{i}": {"precision": 1.0, "recall": 1.0, "f1": float(i != 77), "count": 1}
        for i in range(100)
    }
    lines = metrics.table({"classes": classes}).split("\n")
    assert len(lines) == 42
    assert any(line.startswith("c77 ") for line in lines)
    assert lines[-1] == "and 60 classes with a higher F1"
    assert len(metrics.table({"classes": dict(list(classes.items())[:40])}).split("\n")) == 41


def test_what_is_shown_is_of_the_test_rows(capsys):
    measured = {"history": [], "valid": {"accuracy": 0.5, "count": 2}}
    metrics.show(measured)
    metrics.show(measured | {"test": {"pearson": 0.25, "count": 9}})
    assert capsys.readouterr().out == "validation accuracy 0.5000\ntest pearson 0.2500\n"
