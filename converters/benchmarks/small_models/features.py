"""A text as its words and pairs of words: the twin of tflm_app/small_models/features.c."""

import collections
import re
from collections.abc import Sequence

import numpy as np
from scipy import sparse

MOST_WORDS = 512
MOST_FEATURES = 16_384
_LEAST_TEXTS = 2
_WORD = re.compile(rb"[a-z0-9\x80-\xff]+")
_BASIS, _PRIME, _MASK = 2166136261, 16777619, 2**32 - 1


def _hash(word: bytes, start: int) -> int:
    for byte in word:
        start = ((start ^ byte) * _PRIME) & _MASK
    return start


def _hashes(text: str) -> list[int]:
    # As the device lowers it: ASCII alone.
    words = _WORD.findall(text.encode().lower())[:MOST_WORDS]
    found, last = [], None
    for word in words:
        hash_of_word = _hash(word, _BASIS)
        found.append(hash_of_word)
        if last is not None:
            found.append(_hash(word, last))
        last = _hash(b" ", hash_of_word)
    return found


def vocabulary(texts: Sequence[str]) -> np.ndarray:
    """Returns the sorted hashes of the features that most texts have, uint32 (features).

    Args:
        texts: Training texts; a feature counts that two of them have, and `MOST_FEATURES` stay.
    """
    texts_with = collections.Counter(h for text in texts for h in set(_hashes(text)))
    most = sorted(texts_with, key=lambda h: (-texts_with[h], h))[:MOST_FEATURES]
    kept = [h for h in most if texts_with[h] >= _LEAST_TEXTS] or most
    return np.array(sorted(kept), np.uint32)


def indices(text: str, known: np.ndarray) -> np.ndarray:
    """Returns those of a text's features that a vocabulary has, as they come.

    Args:
        text: Any text; what is behind its first `MOST_WORDS` words is left away.
        known: As `vocabulary` gives it.
    """
    hashes = np.array(_hashes(text), np.uint32)
    at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return at[known[at] == hashes]


def counts(texts: Sequence[str], known: np.ndarray) -> sparse.csr_matrix:
    """Returns how often each text has each feature of a vocabulary (texts, features)."""
    rows = [np.unique(indices(text, known), return_counts=True) for text in texts]
    ends = np.cumsum([0, *(len(found) for found, _ in rows)])
    columns = np.concatenate([found for found, _ in rows]).astype(np.int32)
    values = np.concatenate([count for _, count in rows]).astype(np.float64)
    return sparse.csr_matrix((values, columns, ends), shape=(len(texts), len(known)))
