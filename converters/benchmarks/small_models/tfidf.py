"""TF-IDF of words and pairs of words with a linear model, trained by scikit-learn, in int8."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.svm import LinearSVC

from converters.benchmarks.small_models import features

_PENALTY = 1.0


@dataclasses.dataclass(frozen=True)
class TfIdf:
    """The fp32 model and its integers.

    Attributes:
        vocabulary: uint32 (features), as `features.vocabulary` gives it.
        labels: Names of the classes, in the order of the weights.
        idf: (features)
        weights: (features, labels), of features of length 1.
        biases: (labels)
    """

    vocabulary: np.ndarray
    labels: tuple[str, ...]
    idf: np.ndarray
    weights: np.ndarray
    biases: np.ndarray

    @classmethod
    def train(cls, texts: Sequence[str], answers: Sequence[str]) -> "TfIdf":
        """Fits the model.

        Args:
            texts: Training texts.
            answers: Their labels, two different ones at least.
        """
        known = features.vocabulary(texts)
        counted = features.counts(texts, known)
        transformer = TfidfTransformer()
        model = LinearSVC(C=_PENALTY)
        model.fit(transformer.fit_transform(counted), answers)
        weights, biases = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps one logit then
            weights = np.concatenate([-weights, weights]) / 2
            biases = np.concatenate([-biases, biases]) / 2
        return cls(known, tuple(model.classes_), transformer.idf_, weights.T, biases)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Returns the labels in fp32."""
        weighted = features.counts(texts, self.vocabulary).multiply(self.idf).tocsr()
        norms = sparse.linalg.norm(weighted, axis=1)
        scores = np.asarray(weighted @ self.weights) / np.maximum(norms, 1e-12)[:, None]
        return [self.labels[index] for index in np.argmax(scores + self.biases, axis=1)]

    def quantize(self) -> "Int8TfIdf":
        """Rounds the model to the device's integers."""
        rows = self.weights * self.idf[:, None]
        row_scale = np.abs(rows).max() / 127 or 1.0
        idf_scale = self.idf.max() / 255
        biases = np.round(self.biases * idf_scale / row_scale * 256)
        return Int8TfIdf(
            vocabulary=self.vocabulary,
            labels=self.labels,
            rows=np.round(rows / row_scale).astype(np.int8),
            idf=np.round(self.idf / idf_scale).astype(np.uint8),
            biases=biases.astype(np.int32),
        )


@dataclasses.dataclass(frozen=True)
class Int8TfIdf:
    """The integers of tflm_app/small_models/tfidf.c.

    Attributes:
        vocabulary: uint32 (features), as `features.vocabulary` gives it.
        labels: Names of the classes.
        rows: int8 (features, labels), the weights times the idf.
        idf: uint8 (features)
        biases: int32 (labels)
    """

    vocabulary: np.ndarray
    labels: tuple[str, ...]
    rows: np.ndarray
    idf: np.ndarray
    biases: np.ndarray

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return len(self.labels)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Returns the labels, as the device says them."""
        answers = []
        for text in texts:
            found, frequency = np.unique(
                features.indices(text, self.vocabulary), return_counts=True
            )
            sums = frequency @ self.rows[found].astype(np.int64)
            square = int(((frequency * self.idf[found].astype(np.int64)) ** 2).sum())
            root = math.isqrt(square) if found.size else 1
            answers.append(self.labels[np.argmax(256 * sums + self.biases.astype(np.int64) * root)])
        return answers

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays that tflm_app/small_models/small_model.h names."""
        return {
            "vocabulary": self.vocabulary,
            "rows": self.rows,
            "idf": self.idf,
            "biases": self.biases,
        }
