"""Picks the few samples on which ranges are measured, so that they stand for the whole data set."""

import collections
import itertools
import random

import numpy as np

from embbert_tf.data import Example

_LENGTH_BANDS = 4
_COVERED = 0.995


def covering_length(lengths: list[int], limit: int) -> int:
    """Returns the least multiple of 4 that covers 99.5 % of `lengths`, at most `limit`."""
    wanted = int(np.ceil(np.quantile(lengths, _COVERED)))
    return min(-(-wanted // 4) * 4, limit)


def pick(examples: list[Example], lengths: list[int], count: int, seed: int) -> list[int]:
    """Returns the indices of a sample stratified by class and by length.

    Every class is cut into bands of equal size by length; classes and bands take turns until
    `count` samples are drawn, so that rare classes and the longest texts are in it.

    Args:
      examples: The data set.
      lengths: Tokens of each example.
      count: Samples wanted; all are returned when there are no more.
      seed: Of the draw within a band.

    Raises:
      ValueError: `count` is less than 1, or `lengths` is of another length than `examples`.
    """
    if count < 1:
        raise ValueError(f"the number of calibration samples must be at least 1, not {count}")
    if len(lengths) != len(examples):
        raise ValueError(f"{len(lengths)} lengths for {len(examples)} examples")
    rng = random.Random(seed)
    by_class = collections.defaultdict(list)
    for index, example in enumerate(examples):
        by_class[example.label].append(index)
    strata = []
    for label in sorted(by_class):
        members = sorted(by_class[label], key=lambda i: (lengths[i], i))
        bands = min(_LENGTH_BANDS, len(members))
        edges = [len(members) * band // bands for band in range(bands + 1)]
        for low, high in itertools.pairwise(edges):
            stratum = members[low:high]
            rng.shuffle(stratum)
            strata.append(stratum)
    # Bands before classes in the order of turns: few samples still see every class.
    strata = [strata[i] for i in sorted(range(len(strata)), key=lambda i: i % _LENGTH_BANDS)]
    chosen = []
    while len(chosen) < min(count, len(examples)):
        for stratum in strata:
            if stratum and len(chosen) < count:
                chosen.append(stratum.pop())
    return chosen
