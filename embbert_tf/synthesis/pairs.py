"""Pairs of texts out of plain text, with a score of how much they say in the same words.

The model of `embbert_tf.pretrain` has seen no task in which a word of one text has to be looked up
in another, and a few thousand labelled pairs do not teach it. The score is how much of what two
texts say in rare words is the same: five times the cosine of their words' weights,

    5 · Σ(both) / sqrt(Σ(first) · Σ(second)),    Σ(words) = sum of idf(word)²

One text of a pair is a sentence; the other is one of: the sentence with words left out, exchanged,
added and moved; another of its document; one of another document; parts of two sentences.
"""

import collections
import dataclasses
import math
import random
import re
from collections.abc import Iterable, Sequence

from embbert_tf import errors
from embbert_tf.data import examples, files, plain_text
from embbert_tf.model import option

_TOKEN = re.compile(r"\w+|[^\w\s]+")  # The tokenizer's words.
_WORDS = range(4, 33)  # Of a sentence that is taken; shorter and longer ones are left out.
_SENTENCES = 20  # Of a document at most.
_LONGEST = 36  # Words of a text that is put together.
_HIGHEST = 5.0  # Score of texts with the same words, as in STS-B.

# Shares of the ways in which a second text comes about; the rest are parts of two sentences.
_CHANGED, _SAME_DOCUMENT, _OTHER_DOCUMENT = 0.5, 0.15, 0.1


@option.documented
@dataclasses.dataclass(frozen=True)
class PairOptions:
    """How many pairs, and which."""

    count: int = option.option(240_000, "Pairs to make.", minimum=1)
    seed: int = option.option(0, "Of all choices.", minimum=0)

    def __post_init__(self):
        option.check(self)


def make_pairs(
    inputs: Sequence[files.PathLike],
    output: files.PathLike,
    options: PairOptions = PairOptions(),
) -> None:
    """Makes scored pairs out of text files.

    Args:
        inputs: Text files, plain or `.gz`, a document a line.
        output: CSV `text,text_pair,label` to write, the score as label.
        options: How many, and which.

    Raises:
        CorpusError: A text file cannot be read, or there is too little text.
        FileError: `output` cannot be written.
    """
    files.check_target(output)
    maker = PairMaker(plain_text.read_documents(inputs), options.count, options.seed)
    pairs = (maker.pair() for _ in range(options.count))
    examples.write_csv(
        output, [examples.Example(one, other, f"{score:.2f}") for one, other, score in pairs]
    )


class PairMaker:
    """Makes scored pairs.

    Example:
    ```python
    from embbert_tf.synthesis.pairs import PairMaker

    documents = [
        "The kettle stands near a red door. Nobody has seen it since!",
        "The violin lies under an old bed. Somebody has to play it.",
    ]
    text, text_pair, score = PairMaker(documents, most=50_000, seed=0).pair()
    ```

    Args:
        documents: Texts to take sentences from; all of them count for the words' weights.
        most: Documents to keep, drawn at random.
        seed: Of all choices.

    Raises:
        CorpusError: There are not two documents of which one has two sentences.
    """

    def __init__(self, documents: Iterable[str], most: int, seed: int):
        self._random = random.Random(seed)
        containing: collections.Counter[str] = collections.Counter()
        self._documents: list[list[list[str]]] = []
        total = seen = 0
        for document in documents:
            sentences = [_TOKEN.findall(part) for part in plain_text.split_sentences(document)]
            total += len(sentences)
            for sentence in sentences:
                containing.update(_words(sentence))
            fitting = [sentence for sentence in sentences if len(sentence) in _WORDS]
            if not fitting:
                continue
            seen += 1
            fitting = self._random.sample(fitting, min(_SENTENCES, len(fitting)))
            if len(self._documents) < most:
                self._documents.append(fitting)
            elif (place := self._random.randrange(seen)) < most:
                # Each document stays with the same probability, however many there are.
                self._documents[place] = fitting
        self._several = [document for document in self._documents if len(document) > 1]
        if not self._several or len(self._documents) < 2:
            raise errors.CorpusError(
                "the texts are too few: two documents are needed, one with two sentences of "
                f"{_WORDS.start} to {_WORDS.stop - 1} words"
            )
        self._weights = {
            word: math.log((total + 1) / count) ** 2 for word, count in containing.items()
        }
        self._unknown = math.log(total + 1) ** 2

    def score(self, first: Sequence[str], second: Sequence[str]) -> float:
        """Returns how much the words of two texts are the same, 0 to 5."""
        one, other = _words(first), _words(second)
        size = math.sqrt(self._weight(one) * self._weight(other))
        return _HIGHEST * self._weight(one & other) / size if size else 0.0

    def pair(self) -> tuple[str, str, float]:
        """Returns two texts and their score."""
        draw = self._random
        sentence, neighbour = draw.sample(draw.choice(self._several), 2)
        stranger = draw.choice(draw.choice(self._documents))
        way = draw.random()
        if way < _CHANGED:
            second = self._changed(sentence, draw.choice((neighbour, stranger)))
        elif way < _CHANGED + _SAME_DOCUMENT:
            second = neighbour
        elif way < _CHANGED + _SAME_DOCUMENT + _OTHER_DOCUMENT:
            second = stranger
        else:
            cut, other_cut = draw.randrange(len(sentence)), draw.randrange(len(stranger))
            if draw.random() < 0.5:
                second = sentence[:cut] + stranger[other_cut:]
            else:
                second = stranger[:other_cut] + sentence[cut:]
        second = second[:_LONGEST]
        texts = [sentence, second]
        draw.shuffle(texts)
        return " ".join(texts[0]), " ".join(texts[1]), self.score(sentence, second)

    def _changed(self, sentence: list[str], other: list[str]) -> list[str]:
        """Returns the sentence with more or fewer of its words changed."""
        draw, result = self._random, []
        share = draw.random()
        for word in sentence:
            what = draw.random()
            if what >= share:
                result.append(word)
            elif what >= share / 2:  # Exchanged; else it is left out.
                source = other if draw.random() < 0.5 else draw.choice(draw.choice(self._documents))
                result.append(draw.choice(source))
            if draw.random() < share / 4:
                result.append(draw.choice(other))
        if len(result) > 5 and draw.random() < 0.4:
            start, end = sorted(draw.sample(range(1, len(result)), 2))
            result = result[start:end] + result[:start] + result[end:]
        return result or other

    def _weight(self, words: Iterable[str]) -> float:
        return sum(self._weights.get(word, self._unknown) for word in words)


def _words(tokens: Iterable[str]) -> set[str]:
    """Returns what is a word and no punctuation, in lower case."""
    return {token.lower() for token in tokens if token[0].isalnum()}
