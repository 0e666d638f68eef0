"""Batches of masked tokens and pairs of texts, each a function of seed, step and row."""

import dataclasses

import numpy as np

from embbert_tf import errors
from embbert_tf.model.special_tokens import CLS, MASK, SEP
from embbert_tf.pretraining.corpus import Corpus
from embbert_tf.pretraining.options import PretrainOptions

MASK_SHARE = 0.15  # Of a sequence's tokens, as in BERT; embbert.md's "15 %".


@dataclasses.dataclass(frozen=True)
class Batch:
    """A (part of a) batch of B sequences of n tokens with P masked positions each.

    Attributes:
        ids: int32 (B, n), `[CLS] A` or `[CLS] A [SEP] B`, some tokens masked; no padding.
        positions: int32 (B, P), the masked positions; 0 in unused places.
        labels: int32 (B, P), what stood there.
        weights: float32 (B, P), 1, or 0 in unused places.
        follows: float32 (B,), 1 if the second text follows the first in its document.
        is_pair: float32 (B,), 1 if the row is a pair.
    """

    ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    follows: np.ndarray
    is_pair: np.ndarray


class Batches:
    """The batches of a training, by number.

    In an epoch each token of the corpus is in one sequence of each length: short documents are
    packed, and no place is wasted on padding. The cuts move from epoch to epoch.

    Example:
    ```python
    from embbert_tf.data.tokenizer import train_tokenizer
    from embbert_tf.pretraining import batches, corpus, options

    texts = ["the old lamp is warm. it was cold and is not cold now."] * 20
    tokenizer = train_tokenizer(texts, vocab_size=60)
    made = batches.Batches(
        corpus.tokenize(texts, tokenizer),
        tokenizer.get_vocab_size(),
        options.PretrainOptions(steps=100, batch_tokens=64, lengths=(16,)),
    )
    batch = made.part(step=17, index=0, parts=2)  # The first of two workers' share: 2 rows of 16.
    ```

    Args:
        corpus: From `tokenize` or `load_or_tokenize`.
        vocab_size: V; random replacements are drawn below it.
        options: `steps`, `batch_tokens`, `lengths`, `whole_words`, `next_sentence` and `seed`.

    Raises:
        CorpusError: The corpus is shorter than two sequences.
    """

    def __init__(self, corpus: Corpus, vocab_size: int, options: PretrainOptions):
        longest = max(options.lengths)
        if len(corpus.ids) < 2 * longest:
            raise errors.CorpusError(
                f"the corpus has {len(corpus.ids)} tokens, fewer than two sequences of {longest}; "
                "add text or shorten the sequences"
            )
        self._corpus = corpus
        self._vocab_size = vocab_size
        self._options = options
        choice = np.random.default_rng([options.seed, 1])
        self._length_index = choice.integers(len(options.lengths), size=options.steps)
        # How many batches of the same length came before.
        self._before = np.zeros(options.steps, np.int64)
        for index in range(len(options.lengths)):
            same = self._length_index == index
            self._before[same] = np.arange(same.sum())
        self._orders: dict[tuple[int, int], tuple[np.ndarray, int]] = {}

    def length(self, step: int) -> int:
        """Returns n, the sequence length of a step."""
        return self._options.lengths[self._length_index[step]]

    def rows(self, step: int) -> int:
        """Returns the rows of a step's global batch."""
        return self._options.batch_tokens // self.length(step)

    def part(self, step: int, index: int = 0, parts: int = 1) -> Batch:
        """Returns one worker's share of a step's batch.

        Args:
            step: From 0.
            index: Number of the share.
            parts: How many shares there are; the rows are divided as evenly as they go.
        """
        rows = self.rows(step)
        n = self.length(step)
        share = range(rows * index // parts, rows * (index + 1) // parts)
        made = [self._row(step, row, n, rows) for row in share]
        places = masked_places(n)
        empty = (
            np.zeros((0, n), np.int32),
            np.zeros((0, places), np.int32),
            np.zeros((0, places), np.int32),
            np.zeros((0, places), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.float32),
        )
        if not made:
            return Batch(*empty)
        return Batch(
            *(
                np.stack(column).astype(kind.dtype)
                for column, kind in zip(zip(*made, strict=True), empty, strict=True)
            )
        )

    def _window_start(self, n, number):
        """Returns where sequence `number` of length n, counted over all epochs, begins."""
        windows = len(self._corpus.ids) // n - 1
        epoch, place = divmod(number, windows)
        key = (n, epoch)
        if key not in self._orders:
            # Only this epoch's order and the last one's can still be asked for.
            self._orders = {k: v for k, v in self._orders.items() if k[0] != n or k[1] == epoch - 1}
            random = np.random.default_rng([self._options.seed, 2, n, epoch])
            shift = int(random.integers(n))
            self._orders[key] = (random.permutation(windows), shift)
        order, shift = self._orders[key]
        return int(order[place]) * n + shift

    def _row(self, step, row, n, rows):
        options, corpus = self._options, self._corpus
        random = np.random.default_rng([options.seed, 3, step, row])
        start = self._window_start(n, int(self._before[step]) * rows + row)
        first = slice(start, start + n - 1)
        ids = np.concatenate([[CLS], corpus.ids[first]])
        word_starts = np.concatenate([[True], corpus.word_starts[first]])
        follows = is_pair = 0.0
        if random.random() < options.next_sentence:
            # Cut near the middle, where a sentence begins; [SEP] takes a place of its own.
            middle = slice(start + n // 4, start + 3 * n // 4)
            cuts = np.flatnonzero(corpus.splits[middle])
            if len(cuts):
                is_pair = 1.0
                cut = start + n // 4 + int(random.choice(cuts))
                follows = float(random.random() < 0.5)
                second_size = n - 2 - (cut - start)
                begin = cut if follows else int(random.integers(len(corpus.ids) - second_size))
                second = slice(begin, begin + second_size)
                ids = np.concatenate([[CLS], corpus.ids[start:cut], [SEP], corpus.ids[second]])
                word_starts = np.concatenate(
                    [[True], corpus.word_starts[start:cut], [True], corpus.word_starts[second]]
                )
        chosen = _choose(ids, word_starts, masked_places(n), options.whole_words, random)
        labels = ids[chosen]
        kind = random.random(len(chosen))
        ids[chosen[kind < 0.8]] = MASK
        swapped = chosen[kind >= 0.9]
        ids[swapped] = random.integers(SEP + 1, self._vocab_size, len(swapped))
        missing = masked_places(n) - len(chosen)
        return (
            ids,
            np.pad(chosen, (0, missing)),
            np.pad(labels, (0, missing)),
            np.pad(np.ones(len(chosen)), (0, missing)),
            follows,
            is_pair,
        )


def masked_places(n: int) -> int:
    """Returns P, how many positions of a sequence of n tokens are masked at most."""
    return max(1, int(MASK_SHARE * n))


def _choose(ids, word_starts, places, whole_words, random):
    """Returns the positions to mask, ascending: up to `places`, never [CLS] or [SEP]."""
    maskable = np.flatnonzero((ids != CLS) & (ids != SEP))
    if not whole_words:
        places = min(places, len(maskable))
        return np.sort(random.choice(maskable, places, replace=False))
    word = np.cumsum(word_starts)[maskable]
    words, sizes = np.unique(word, return_counts=True)
    order = random.permutation(len(words))
    # Words in random order as long as they fit; the first that does not ends it, so that long words
    # are not passed over for short ones.
    fit = np.cumsum(sizes[order]) <= places
    return maskable[np.isin(word, words[order[fit]])]
