"""Picks the few samples on which ranges are measured, so that they stand for the whole data set.

And says what they lack where they cannot.
"""

import collections
import dataclasses
import itertools
import random
from typing import Any

import numpy as np

from embbert_tf.data.examples import Example
from embbert_tf.model import special_tokens

_LENGTH_BANDS = 4
_COVERED = 0.995
# Of n texts alike, the next goes beyond all that was seen of an activation with a chance of
# 1 / (n + 1) at either end: 3 % at 32 texts, and a layer has a dozen activations.
_FEWEST_TEXTS = 32
# A sample of 32 that is like the validation rows misses their longest tenth once in 30 times.
_LONGER_SHARE = 0.1
# Positions beyond the longest sample that a graph may have; one in two is never measured then.
_LENGTH_RATIO = 2
# The project's tokenizers leave less than 1 % of their own language's tokens unknown.
_UNKNOWN_SHARE = 0.05
_UNKNOWN_RATIO = 3  # above what the validation rows have
# 32 draws from a bell curve span six tenths of what 1,000 do.
_SCORE_SHARE = 0.5
_NAMED = 5  # labels that a sentence names


def covering_length(lengths: list[int], limit: int) -> int:
    """Returns the least multiple of 4 that covers 99.5 % of `lengths`, at most `limit`."""
    # Not interpolated between two lengths, of which the longer one would then be left out.
    wanted = int(np.quantile(lengths, _COVERED, method="inverted_cdf"))
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
    chosen: list[Any] = []
    while len(chosen) < min(count, len(examples)):
        for stratum in strata:
            if stratum and len(chosen) < count:
                chosen.append(stratum.pop())
    return chosen


@dataclasses.dataclass(frozen=True)
class Rows:
    """Labelled texts with their token ids, in one order.

    Attributes:
        examples: Texts and labels.
        sequences: Token ids of each, without padding.
    """

    examples: list[Example]
    sequences: list[list[int]]


def shortcomings(
    sample: Rows,
    labels: list[str] | None,
    pair: bool = False,
    max_length: int = 0,
    count: int | None = None,
    validation: Rows | None = None,
) -> list[str]:
    """Says what a calibration file lacks to stand for what the device will read.

    Example:
    ```python
    from embbert_tf.data.examples import Example

    rows = Rows([Example("start the fan", None, "on")], [[2, 17, 30, 99]])
    for sentence in shortcomings(rows, ["off", "on"], max_length=64):
        print(f"warning: {sentence}")
    ```

    Args:
        sample: All rows of the calibration file.
        labels: Those of the model, in any order; empty for a regression, None for an encoder.
        pair: Whether the model reads pairs of texts.
        max_length: Tokens that the graph will read; 0 if the sample itself decides that.
        count: How many of the rows are measured; None: all.
        validation: Rows that the model's training held out, to compare with; None if unknown.

    Returns:
        A whole sentence for each lack; none if the sample will do.
    """
    if not sample.examples:
        return ["there is no text to calibrate on"]
    labelled = []
    if labels is not None:
        labelled = _label_lacks(sample, labels) if labels else _score_lacks(sample, validation)
    return [
        *_text_lacks(sample, pair, count),
        *labelled,
        *_length_lacks(sample, max_length, validation),
        *_unknown_lacks(sample, validation),
    ]


def _text_lacks(sample: Rows, pair: bool, count: int | None) -> list[str]:
    found = []
    texts = len({tuple(ids) for ids in sample.sequences})
    measured = texts if count is None else min(texts, count)
    if measured < _FEWEST_TEXTS:
        found.append(
            f"ranges are measured on {_number(measured, 'distinct text')}; with fewer than "
            f"{_FEWEST_TEXTS} the device will often meet values beyond them"
        )
    single = sum(example.text_pair is None for example in sample.examples)
    if pair and single:
        found.append(
            f"{_number(single, 'row')} of {len(sample.examples)} have no text_pair, and the model "
            "reads pairs; nothing behind a [SEP] is measured there"
        )
    if not pair and single < len(sample.examples):
        found.append("the rows have a text_pair, which this model does not read")
    return found


def _label_lacks(sample: Rows, labels: list[str]) -> list[str]:
    found = []
    counts = collections.Counter(example.label for example in sample.examples)
    missing = [label for label in labels if label not in counts]
    foreign = [label for label in counts if label not in set(labels)]
    if foreign:
        rows = sum(counts[label] for label in foreign)
        found.append(
            f"{_number(rows, 'row')} of {len(sample.examples)} have labels that the model does not "
            f"know ({_some(foreign)}); are they of another task? The model knows {_some(labels)}"
        )
    if missing:
        found.append(
            f"no row has the label {_some(missing)}, {len(missing)} of the model's {len(labels)} "
            "labels; activations that only such texts cause are not measured"
        )
    return found


def _scores(examples: list[Example]) -> tuple[np.ndarray, list[str]]:
    """Returns the finite scores, and the labels that are none."""
    values, others = [], []
    for example in examples:
        try:
            value = float(example.label)
        except ValueError:
            value = np.nan
        if np.isfinite(value):
            values.append(value)
        else:
            others.append(example.label)
    return np.array(values), others


def _score_lacks(sample: Rows, validation: Rows | None) -> list[str]:
    found = []
    scores, others = _scores(sample.examples)
    if others:
        found.append(
            f"{_number(len(others), 'row')} of {len(sample.examples)} have a label that is no "
            f"score ({_some(list(dict.fromkeys(others)))}); are they of another task?"
        )
    if not scores.size:
        return found
    low, high = scores.min(), scores.max()
    known = _scores(validation.examples)[0] if validation else scores
    least, most = (known.min(), known.max()) if known.size else (low, high)
    covered = min(high, most) - max(low, least)
    if low == high and (least, most) == (low, high):
        found.append(f"every row has the score {low:g}; other scores are not measured")
    elif covered < _SCORE_SHARE * (most - least):
        found.append(
            f"the scores lie within {low:g}..{high:g}, those of the validation rows within "
            f"{least:g}..{most:g}; the rest of that range is not measured"
        )
    return found


def _length_lacks(sample: Rows, max_length: int, validation: Rows | None) -> list[str]:
    longest = max(map(len, sample.sequences))
    if max_length > _LENGTH_RATIO * longest:
        return [
            f"the longest text has {_number(longest, 'token')}, the graph reads {max_length}; what "
            "longer texts cause is not measured"
        ]
    if not validation or not validation.sequences:
        return []
    lengths = np.array([len(ids) for ids in validation.sequences])
    # A graph of a length that the user chose reads no more of a text than that.
    readable = np.minimum(lengths, max_length) if max_length else lengths
    share = float(np.mean(readable > longest))
    if share <= _LONGER_SHARE:
        return []
    effect = "what they cause is not measured"
    if not max_length:
        effect += ", and the graph will cut them off (--max_length sets its length)"
    return [
        f"the longest text has {_number(longest, 'token')}, but {share:.0%} of the rows that "
        f"training held out are longer, up to {lengths.max()}; {effect}"
    ]


def _unknown_share(sequences: list[list[int]]) -> float:
    words = [token for ids in sequences for token in ids if token != special_tokens.CLS]
    words = [token for token in words if token not in (special_tokens.SEP, special_tokens.PAD)]
    return words.count(special_tokens.UNK) / max(len(words), 1)


def _unknown_lacks(sample: Rows, validation: Rows | None) -> list[str]:
    share = _unknown_share(sample.sequences)
    usual = _unknown_share(validation.sequences) if validation else 0.0
    if share <= max(_UNKNOWN_SHARE, _UNKNOWN_RATIO * usual):
        return []
    return [
        f"{share:.0%} of the tokens are [UNK]; are the texts in a language or a script that the "
        "tokenizer was not trained on?"
    ]


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _some(labels: list[str]) -> str:
    named = ", ".join(repr(label) for label in labels[:_NAMED])
    more = len(labels) - _NAMED
    return f"{named} and {more} more" if more > 0 else named
