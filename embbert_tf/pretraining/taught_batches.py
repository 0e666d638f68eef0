"""Batches of three kinds: packed corpus, texts that a sentence encoder knows, pairs of those."""

from collections.abc import Sequence

import numpy as np
import tokenizers

from embbert_tf import errors
from embbert_tf.model.special_tokens import CLS, SEP, UNK
from embbert_tf.pretraining.batches import Batch, Batches, choose, masked_places
from embbert_tf.pretraining.corpus import Corpus
from embbert_tf.pretraining.embeddings import Embeddings
from embbert_tf.pretraining.options import PretrainOptions

_MASKED_TEXTS = 0.6  # Share of the texts with masked tokens; the others are seen whole.
_SHORTEST_ROW = 8  # Tokens of the least width, to which shorter texts are padded.
_NEAREST_OF = 512  # Texts of which the near one is chosen.
_NEAR = 0.5  # Share of the pairs whose second text is the nearest of those; else it is any.


class TaughtBatches:
    """The batches of a pre-training with a sentence encoder for a teacher, by number.

    A step is of one kind, drawn by `text_steps` and `pair_steps`: texts as they are, one a row,
    padded to the batch's width, with the encoder's embedding each; `[CLS] A [SEP] B`, with the
    cosine of both embeddings; or packed corpus, as of `Batches`.

    Args:
        corpus: Of the corpus' steps.
        embeddings: Texts, and what the encoder says of them.
        tokenizer: Of the model.
        options: As for `Batches`, with `text_steps` and `pair_steps`.

    Raises:
        CorpusError: The corpus is too short.
        EncoderError: The embeddings are of too few texts.
    """

    def __init__(
        self,
        corpus: Corpus,
        embeddings: Embeddings,
        tokenizer: tokenizers.Tokenizer,
        options: PretrainOptions,
    ):
        self._packed = Batches(corpus, tokenizer.get_vocab_size(), options)
        self._options = options
        self._vocab_size = tokenizer.get_vocab_size()
        self._rows = embeddings.rows
        self.embedding_size = embeddings.rows.shape[1]
        longest = max(options.lengths)
        self._widths = _widths(longest)
        self._ids, self._ends = _encode(embeddings.texts, tokenizer, longest - 1)
        lengths = np.diff(self._ends, prepend=0) + 1  # With [CLS].
        place = np.searchsorted(self._widths, lengths)
        self._members = [np.flatnonzero(place == index) for index in range(len(self._widths))]
        draw = np.random.default_rng([options.seed, 4])
        kinds = draw.random(options.steps)
        self._is_pair = kinds < options.pair_steps
        self._is_text = ~self._is_pair & (kinds < options.pair_steps + options.text_steps)
        self._width = self._draw_widths(draw, longest)

    def _draw_widths(self, draw, longest):
        """Returns the index of each step's width; every text is met as often as any other."""
        sizes = np.array([len(members) if len(members) >= 2 else 0 for members in self._members])
        texts = sizes * self._widths  # A step of a width has batch_tokens / width rows.
        pairs = np.where(2 * self._widths <= longest, texts, 0)
        chosen = np.zeros(self._options.steps, np.int64)
        for steps, chances in ((self._is_text, texts), (self._is_pair, pairs)):
            if not steps.any():
                continue
            if not chances.sum():
                raise errors.EncoderError(
                    "the embeddings have no two texts short enough for a pair in a sequence of "
                    f"{longest} tokens; write more of them, with longer `lengths`, or without "
                    "pair_steps"
                )
            chosen[steps] = draw.choice(len(sizes), steps.sum(), p=chances / chances.sum())
        return chosen

    def length(self, step: int) -> int:
        """Returns n, the tokens of a row of a step's batch, padding included."""
        if self._is_pair[step]:
            return int(2 * self._widths[self._width[step]])
        if self._is_text[step]:
            return int(self._widths[self._width[step]])
        return self._packed.length(step)

    def rows(self, step: int) -> int:
        """Returns the rows of a step's global batch."""
        return max(1, self._options.batch_tokens // self.length(step))

    def part(self, step: int, index: int = 0, parts: int = 1) -> Batch:
        """Returns one worker's share of a step's batch, as `Batches.part` does."""
        if not (self._is_pair[step] or self._is_text[step]):
            return self._packed.part(step, index, parts)
        rows, n = self.rows(step), self.length(step)
        share = slice(rows * index // parts, rows * (index + 1) // parts)
        draw = np.random.default_rng([self._options.seed, 5, step])
        members = self._members[self._width[step]]
        chosen = draw.choice(members, rows, replace=rows > len(members))
        if not self._is_pair[step]:
            return self._texts(step, share, chosen[share], n)
        pool = draw.choice(members, min(_NEAREST_OF, len(members)), replace=False)
        near = draw.random(rows) < _NEAR
        other = draw.choice(pool, rows)
        return self._pairs(chosen[share], pool, near[share], other[share], n)

    def _text(self, index):
        start = self._ends[index - 1] if index else 0
        return self._ids[start : self._ends[index]]

    def _texts(self, step, share, chosen, n):
        batch = Batch.empty(len(chosen), n, self.embedding_size)
        for row, index in enumerate(chosen):
            text = self._text(index)
            batch.words[row, : 1 + len(text)] = batch.ids[row, : 1 + len(text)] = [CLS, *text]
            draw = np.random.default_rng([self._options.seed, 6, step, share.start + row])
            if draw.random() < _MASKED_TEXTS:
                places = masked_places(1 + len(text))
                chosen_places = choose(batch.ids[row], np.ones(n, bool), places, False, draw)
                batch.mask(row, chosen_places, self._vocab_size, draw)
        batch.embeddings[:] = self._rows[chosen]
        return batch

    def _pairs(self, chosen, pool, near, other, n):
        batch = Batch.empty(len(chosen), n)
        first = self._rows[chosen].astype(np.float32)
        closeness = first @ self._rows[pool].astype(np.float32).T
        closeness[chosen[:, None] == pool[None]] = -2  # No text is its own partner.
        second = np.where(near, pool[closeness.argmax(axis=1)], other)
        batch.closeness[:] = np.sum(first * self._rows[second].astype(np.float32), axis=1)
        batch.is_close[:] = 1
        for row, (one, two) in enumerate(zip(chosen, second, strict=True)):
            ids = np.concatenate([[CLS], self._text(one), [SEP], self._text(two)])[:n]
            batch.ids[row, : len(ids)] = ids
        return batch


def _widths(longest: int) -> np.ndarray:
    """Returns the widths of batches, ascending, each twice the one before, up to the longest."""
    widths = [longest]
    while widths[0] >= 2 * _SHORTEST_ROW:
        widths.insert(0, (widths[0] + 1) // 2)
    return np.array(widths)


def _encode(
    texts: Sequence[str], tokenizer: tokenizers.Tokenizer, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of all texts, int32, and where each ends; `most` tokens of a text."""
    rows = [np.zeros(0, np.int32)]
    for start in range(0, len(texts), 10_000):
        part = list(texts[start : start + 10_000])
        for encoding in tokenizer.encode_batch(part, add_special_tokens=False):
            ids = np.array(encoding.ids[:most], np.int32)
            # The spelling of a special token in a text is an unknown word.
            ids[ids <= SEP] = UNK
            rows.append(ids)
    return np.concatenate(rows), np.cumsum([len(row) for row in rows[1:]])
