"""What no model of language reaches: a linear model on counted words, and the commonest answer.

Word n-grams (one and two words, TF-IDF) into scikit-learn's logistic regression, or ridge
regression for scores; regularization and class weights are chosen by five-fold cross-validation on
the training rows. A pair gives the n-grams of either text, of what both share and of where they
differ, and how much they overlap.
"""

from collections.abc import Sequence

import numpy as np

from embbert_tf import data as data_lib
from embbert_tf import metrics as metrics_lib
from embbert_tf import tasks

_NGRAMS = (1, 2)
_FOLDS = 5
_STRENGTHS = (0.1, 1.0, 10.0, 100.0)


def commonest(train: Sequence[data_lib.Example], test, labels: list[str], path) -> dict:
    """Returns the metrics of answering the training rows' commonest label, or mean score, always.

    Args:
        train: Rows to learn from.
        test: Rows to answer.
        labels: Class names; empty for regression.
        path: Where the rows come from, for messages.

    Raises:
        DataError: A label of `test` is not in `labels`, or a score is no number.
    """
    targets = tasks.targets_of(test, labels, path)
    if not labels:
        return metrics_lib.regression(np.zeros(len(test)), targets)
    counts = np.bincount(tasks.targets_of(train, labels, path), minlength=len(labels))
    return metrics_lib.classification(np.tile(counts, (len(test), 1)), targets, labels)


def learnt(
    train: Sequence[data_lib.Example], test, labels: list[str], path, metric: str = "accuracy"
) -> dict:
    """Returns the metrics of a linear model on words; arguments and errors as `commonest`.

    Args:
        train: Rows to learn from.
        test: Rows to answer.
        labels: Class names; empty for regression.
        path: Where the rows come from, for messages.
        metric: What cross-validation of a classifier looks at: "accuracy", "f1" or "matthews".
    """
    from sklearn import linear_model, model_selection

    targets = tasks.targets_of(train, labels, path)
    wanted = tasks.targets_of(test, labels, path)
    features, test_features = _features(train, test)
    if labels:
        estimator = linear_model.LogisticRegression(max_iter=2000)
        grid = {"C": _STRENGTHS, "class_weight": [None, "balanced"]}
        scoring = {"matthews": "matthews_corrcoef"}.get(metric, metric)
    else:
        estimator = linear_model.Ridge(solver="lsqr")
        grid, scoring = {"alpha": _STRENGTHS}, None
    search = model_selection.GridSearchCV(estimator, grid, scoring=scoring, cv=_FOLDS)
    search.fit(features, targets)
    if not labels:
        return metrics_lib.regression(search.predict(test_features), wanted)
    answers = search.predict(test_features)
    logits = (answers[:, np.newaxis] == np.arange(len(labels))).astype(np.float32)
    return metrics_lib.classification(logits, wanted, labels)


def _features(train, test):
    """Sparse features (rows, columns) of both."""
    from sklearn.feature_extraction import text

    vectorizer = text.TfidfVectorizer(ngram_range=_NGRAMS, sublinear_tf=True, token_pattern=r"\S+")
    texts = [t for e in train for t in (e.text, e.text_pair) if t is not None]
    vectorizer.fit(texts)
    return tuple(_vectors(vectorizer, examples) for examples in (train, test))


def _vectors(vectorizer, examples):
    from scipy import sparse

    first = vectorizer.transform([e.text for e in examples])
    if examples[0].text_pair is None:
        return first
    second = vectorizer.transform([e.text_pair for e in examples])
    shared = first.multiply(second)
    overlap = np.array([_overlap(e) for e in examples])
    cosine = np.asarray(shared.sum(axis=1))
    columns = [first, second, shared, abs(first - second), np.hstack([cosine, overlap])]
    return sparse.hstack([sparse.csr_matrix(c) for c in columns], format="csr")


def _overlap(example: data_lib.Example) -> list[float]:
    """Shared words by all words, shared words by the shorter text's, difference in length."""
    one, other = (set(t.lower().split()) for t in (example.text, example.text_pair))
    shared = len(one & other)
    return [
        shared / len(one | other),
        shared / min(len(one), len(other)),
        abs(len(one) - len(other)) / max(len(one), len(other)),
    ]
