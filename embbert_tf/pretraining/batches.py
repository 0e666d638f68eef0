"""Batches of masked tokens and pairs of texts, each a function of seed, step and row."""

import dataclasses

import numpy as np

from embbert_tf import errors
from embbert_tf.model.special_tokens import CLS, MASK, PAD, SEP
from embbert_tf.pretraining.corpus import Corpus
from embbert_tf.pretraining.options import PretrainOptions

MASK_SHARE = 0.15  # Of a sequence's tokens, as in BERT; embbert.md's "15 %".


@dataclasses.dataclass(frozen=True)
class Batch:
    """A (part of a) batch of B rows of n tokens with P masked positions each.

    Attributes:
        ids: int32 (B, n), `[CLS] A` or `[CLS] A [SEP] B`, some tokens masked.
        words: int32 (B, n), what `[CLS]` is to know the words of: `ids` before anything was masked;
            zeros in pairs.
        positions: int32 (B, P), the masked positions; 0 in unused places.
        labels: int32 (B, P), what stood there.
        weights: float32 (B, P), 1, or 0 in unused places.
        follows: float32 (B,), 1 if the second text follows the first in its document.
        is_pair: float32 (B,), 1 if the row is a pair of which that is asked.
        embeddings: float32 (B, d), what a sentence encoder gives the whole text, a row of length 1;
            (B, 0) where that is not known.
        closeness: float32 (B,), cosine of the embeddings of a pair's texts.
        is_close: float32 (B,), 1 if the row is a pair of which that is asked.
    """

    ids: np.ndarray
    words: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    follows: np.ndarray
    is_pair: np.ndarray
    embeddings: np.ndarray
    closeness: np.ndarray
    is_close: np.ndarray

    @classmethod
    def empty(cls, rows: int, n: int, embedding_size: int = 0) -> "Batch":
        """Returns zeros, to be filled in."""
        places = masked_places(n)
        return cls(
            ids=np.zeros((rows, n), np.int32),
            words=np.zeros((rows, n), np.int32),
            positions=np.zeros((rows, places), np.int32),
            labels=np.zeros((rows, places), np.int32),
            weights=np.zeros((rows, places), np.float32),
            follows=np.zeros(rows, np.float32),
            is_pair=np.zeros(rows, np.float32),
            embeddings=np.zeros((rows, embedding_size), np.float32),
            closeness=np.zeros(rows, np.float32),
            is_close=np.zeros(rows, np.float32),
        )

    def mask(
        self, row: int, chosen: np.ndarray, vocab_size: int, random: np.random.Generator
    ) -> None:
        """Masks tokens of a row: eight of ten by `[MASK]`, one by any token, one not at all.

        Args:
            row: Of the batch.
            chosen: Positions, ascending.
            vocab_size: V; random replacements are drawn below it.
            random: Draws.
        """
        count, ids = len(chosen), self.ids[row]
        self.positions[row, :count] = chosen
        self.labels[row, :count] = ids[chosen]
        self.weights[row, :count] = 1
        kind = random.random(count)
        ids[chosen[kind < 0.8]] = MASK
        swapped = chosen[kind >= 0.9]
        ids[swapped] = random.integers(SEP + 1, vocab_size, len(swapped))


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
        batch = Batch.empty(len(share), n)
        for place, row in enumerate(share):
            self._fill(batch, place, step, row, rows)
        return batch

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

    def _fill(self, batch, place, step, row, rows):
        """Fills row `place` of a batch with row `row` of a step."""
        options, corpus, n = self._options, self._corpus, self.length(step)
        random = np.random.default_rng([options.seed, 3, step, row])
        start = self._window_start(n, int(self._before[step]) * rows + row)
        first = slice(start, start + n - 1)
        ids = np.concatenate([[CLS], corpus.ids[first]])
        word_starts = np.concatenate([[True], corpus.word_starts[first]])
        if random.random() < options.next_sentence:
            # Cut near the middle, where a sentence begins; [SEP] takes a place of its own.
            middle = slice(start + n // 4, start + 3 * n // 4)
            cuts = np.flatnonzero(corpus.splits[middle])
            if len(cuts):
                batch.is_pair[place] = 1
                cut = start + n // 4 + int(random.choice(cuts))
                follows = random.random() < 0.5
                batch.follows[place] = follows
                second_size = n - 2 - (cut - start)
                begin = cut if follows else int(random.integers(len(corpus.ids) - second_size))
                second = slice(begin, begin + second_size)
                ids = np.concatenate([[CLS], corpus.ids[start:cut], [SEP], corpus.ids[second]])
                word_starts = np.concatenate(
                    [[True], corpus.word_starts[start:cut], [True], corpus.word_starts[second]]
                )
        batch.ids[place] = ids
        if not batch.is_pair[place]:
            batch.words[place] = ids
        chosen = choose(ids, word_starts, masked_places(n), options.whole_words, random)
        batch.mask(place, chosen, self._vocab_size, random)


def masked_places(n: int) -> int:
    """Returns P, how many positions of a sequence of n tokens are masked at most."""
    return max(1, int(MASK_SHARE * n))


def choose(
    ids: np.ndarray,
    word_starts: np.ndarray,
    places: int,
    whole_words: bool,
    random: np.random.Generator,
) -> np.ndarray:
    """Returns the positions to mask, ascending: up to `places`, never [PAD], [CLS] or [SEP]."""
    maskable = np.flatnonzero((ids != PAD) & (ids != CLS) & (ids != SEP))
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
