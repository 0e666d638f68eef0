"""A linear model of words and pieces of words: a teacher that errs elsewhere than a transformer.

Where single words and turns of phrase decide, as in intents, it is as good as a small transformer
or better ("Baselines and Bigrams", Wang and Manning, ACL 2012), and it learns in seconds. The mean
of both knows more than either. Vectors and fitting are scikit-learn's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from embbert_tf import errors
from embbert_tf.data import encoding
from embbert_tf.data.examples import Example
from embbert_tf.data.files import PathLike

# Columns of the hashed words and of the hashed pieces, each.
_COLUMNS = 2**17
_PENALTY = 10.0  # scikit-learn's C, the inverse of the penalty's weight.


class LinearTeacher:
    """Logistic regression, or ridge regression, of TF-IDF of words, pairs of them and pieces.

    Pieces are the 2 to 5 letters in a row within a word. A pair of texts is what the first has,
    what the second has, and what both have.

    Args:
        examples: Training texts, or pairs.
        labels: Class names, which every example has one of; empty for a regression.
        path: Where the examples are from, for messages.

    Raises:
        DataError: A label or a score cannot be used, or a class has no text.
    """

    def __init__(self, examples: Sequence[Example], labels: Sequence[str], path: PathLike):
        from sklearn import linear_model, multiclass  # A second to load.

        targets = encoding.targets_of(examples, labels, path)
        absent = sorted(set(range(len(labels))) - set(targets.tolist()))
        if absent:
            raise errors.DataError(f"{path}: no text of the class '{labels[absent[0]]}'")
        self._features, self._regression = _features(), not labels
        rows = self._vectors(examples, fit=True)
        # Columns that no training text has would cost each class time and memory.
        self._known = np.unique(rows.indices)
        rows = rows[:, self._known]
        if self._regression:
            self._model = linear_model.Ridge().fit(rows, targets)
            return
        # A class after the other, as one model of hundreds of classes takes gigabytes.
        one = linear_model.LogisticRegression(C=_PENALTY, solver="liblinear", random_state=0)
        self._model = multiclass.OneVsRestClassifier(one).fit(rows, targets)

    def says(self, examples: Sequence[Example]) -> np.ndarray:
        """Returns probabilities (count, L) of texts, or scores (count, 1)."""
        rows = self._vectors(examples)[:, self._known]
        if self._regression:
            return self._model.predict(rows)[:, np.newaxis]
        return self._model.predict_proba(rows)

    def _vectors(self, examples: Sequence[Example], fit: bool = False) -> Any:
        """Returns a sparse row of each text or pair; with `fit`, IDF comes from these."""
        from scipy import sparse

        texts = [example.text for example in examples]
        others = [example.text_pair for example in examples if example.text_pair is not None]
        make = self._features.fit_transform if fit else self._features.transform
        both = make(texts + others).tocsr()
        if not others:
            return both
        first, second = both[: len(texts)], both[len(texts) :]
        return sparse.hstack([first, second, first.multiply(second)], format="csr")


def _features() -> Any:
    """Returns what makes TF-IDF vectors of texts; hashed, so that a vocabulary takes no memory."""
    from sklearn import pipeline
    from sklearn.feature_extraction import text

    def tfidf(**kind: Any) -> Any:
        hashed = text.HashingVectorizer(
            n_features=_COLUMNS, norm=None, alternate_sign=False, **kind
        )
        return pipeline.make_pipeline(hashed, text.TfidfTransformer(sublinear_tf=True))

    return pipeline.make_union(
        tfidf(ngram_range=(1, 2), token_pattern=r"\w+"),
        tfidf(analyzer="char_wb", ngram_range=(2, 5)),
    )
