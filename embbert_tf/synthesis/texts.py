"""New texts without a label out of training texts, for a teacher to read.

A command such as "find the terror within" is a frame of frequent words with a name in it. A few
thousand commands show every frame, but few of the names that can stand in it; a teacher that has
read more than the student knows names that the training texts lack. Texts with other names in the
same frames are what it can pass that on with (more texts of the task's kind are what distilling
small models needs most: arXiv 1903.12136, 1909.10351). Some texts lose a word or get another, some
are the head of one text and the tail of another: what lies between the classes gets a teacher's
opinion too.
"""

import bisect
import collections
import dataclasses
import gzip
import itertools
import math
import os
import random
import re
from collections.abc import Iterable, Sequence

from embbert_tf import errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import files, plain_text
from embbert_tf.model import option

_RARE = 20  # A word in at most so many training texts is part of a name.
_LINKED = 0.5  # How often a frequent word between two rare ones is part of the name ("of", "the").
_SWAPPED = 0.8  # Share of the names that are exchanged.
_SAME_LABEL, _FROM_CORPUS = 0.4, 0.15  # Where names come from; the rest: texts of any label.
_WORD_CHANGED, _SPLICED = 0.15, 0.1  # Shares of the texts.
_LONGEST_NAME = 5  # Words of a name out of the corpus.
_TRIES = 100  # Texts in a row that are not new before there are no more.

_WORD = r"[A-Z][A-Za-z'’]+"
_LINK = r"(?: (?:of|the|and|in|a|to|for|on|at|de|la|with|from|by)){0,2}"
# Capitalised words, also with small ones between them, but not the first of a sentence.
_NAME = re.compile(rf"(?<![.!?\"“:] )(?<!^)\b{_WORD}(?:{_LINK} {_WORD}){{0,4}}\b")
_QUOTED = re.compile(r"[\"“]([A-Z][^\"“”.!?<>]{2,45})[\"”]")


@option.documented
@dataclasses.dataclass(frozen=True)
class TextOptions:
    """How many texts, and which."""

    count: int = option.option(200_000, "Texts to make.", minimum=1)
    seed: int = option.option(0, "Of all choices.", minimum=0)

    def __post_init__(self):
        option.check(self)


def make_texts(
    train: files.PathLike,
    output: files.PathLike,
    *,
    names: Sequence[files.PathLike] = (),
    options: TextOptions = TextOptions(),
) -> None:
    """Makes new texts out of training texts.

    Args:
        train: Training CSV `text,label`.
        output: File to write, a text a line; compressed if it ends in `.gz`.
        names: Text files, plain or `.gz`, a document a line, to take more names from.
        options: How many, and which.

    Raises:
        CorpusError: A file of names cannot be read.
        DataError: The training texts cannot be read, or too few texts can be made of them.
        FileError: `output` cannot be written.
    """
    files.check_target(output)
    examples = list(examples_lib.read_examples(train))
    try:
        maker = TextMaker(examples, plain_text.read_documents(names), options.seed)
        text = "".join(f"{maker.text()}\n" for _ in range(options.count)).encode()
    except errors.DataError as error:
        raise errors.DataError(f"{train}: {error}") from error
    if os.fspath(output).endswith(".gz"):
        text = gzip.compress(text, mtime=0)  # Without the hour, so that the same seed is the same.
    files.write_bytes(output, text)


class TextMaker:
    """Makes texts.

    Example:
    ```python
    from embbert_tf.data.examples import Example
    from embbert_tf.synthesis.texts import TextMaker

    names = ["kettle", "old lantern", "violin"]
    examples = [Example(f"play {name} by the sea", None, "music") for name in names * 10]
    text = TextMaker(examples, [], seed=0).text()
    ```

    Args:
        examples: Training texts, without pairs.
        documents: Plain text, with capital letters, to take more names from; may be empty.
        seed: Of all choices.

    Raises:
        DataError: The examples are pairs, or have no word that is rare.
    """

    def __init__(
        self, examples: Sequence[examples_lib.Example], documents: Iterable[str], seed: int
    ):
        self._random = random.Random(seed)
        if any(example.text_pair is not None for example in examples):
            raise errors.DataError(
                "has pairs of texts; new texts can be made out of single texts alone (for pairs: "
                "make_pairs)"
            )
        self._texts = [(example.text.split(), example.label) for example in examples]
        containing: collections.Counter[str] = collections.Counter()
        for words, _ in self._texts:
            containing.update({word.lower() for word in words})
        self._rare = {word for word, texts in containing.items() if texts <= _RARE}
        self._names: dict[str, list[list[str]]] = collections.defaultdict(list)
        for words, label in self._texts:
            self._names[label] += [words[begin:end] for begin, end in self._spans(words)]
        self._all_names = list(itertools.chain.from_iterable(self._names.values()))
        if not self._all_names:
            raise errors.DataError(
                f"every word is in more than {_RARE} texts, so there are no names to exchange; "
                "give more texts, with more names in them"
            )
        self._made = 0
        self._known = {" ".join(words) for words, _ in self._texts}
        lower = all(word == word.lower() for words, _ in self._texts for word in words)
        self._corpus_names = _CorpusNames(documents, lower)

    def text(self) -> str:
        """Returns a text that neither the training texts have nor a call before.

        Raises:
            DataError: There are no more.
        """
        for _ in range(_TRIES):
            words = self._changed(self._with_other_names(*self._random.choice(self._texts)))
            text = " ".join(words)
            if text and text not in self._known:
                self._known.add(text)
                self._made += 1
                return text
        raise errors.DataError(
            f"{_TRIES} texts in a row were not new: so few texts give no more than about "
            f"{self._made} others; ask for fewer, or take names from more text"
        )

    def _spans(self, words: list[str]) -> list[tuple[int, int]]:
        """Returns begin and end of what are names in a text."""
        rare = [word.lower() in self._rare for word in words]
        spans = []
        at = 0
        while at < len(words):
            if not rare[at]:
                at += 1
                continue
            end = at + 1
            while end < len(words) and (
                rare[end]
                or (end + 1 < len(words) and rare[end + 1] and self._random.random() < _LINKED)
            ):
                end += 1
            spans.append((at, end))
            at = end
        return spans

    def _with_other_names(self, words: list[str], label: str) -> list[str]:
        result: list[str] = []
        done = 0
        for begin, end in self._spans(words):
            result += words[done:begin]
            swapped = self._random.random() < _SWAPPED
            result += self._name(label) if swapped else words[begin:end]
            done = end
        return result + words[done:]

    def _name(self, label: str) -> list[str]:
        kind = self._random.random()
        if kind < _FROM_CORPUS and self._corpus_names:
            return self._corpus_names.draw(self._random)
        if kind < _FROM_CORPUS + _SAME_LABEL and self._names[label]:
            return self._random.choice(self._names[label])
        return self._random.choice(self._all_names)

    def _changed(self, words: list[str]) -> list[str]:
        kind = self._random.random()
        if kind < _WORD_CHANGED:
            words = words.copy()
            place = self._random.randrange(len(words))
            if len(words) > 1 and self._random.random() < 0.5:
                del words[place]
            else:
                words[place] = self._random.choice(self._random.choice(self._texts)[0])
        elif kind < _WORD_CHANGED + _SPLICED:
            other, _ = self._random.choice(self._texts)
            cut = self._random.randrange(1, len(words) + 1)
            words = words[:cut] + other[self._random.randrange(len(other)) :]
        return words


class _CorpusNames:
    """Capitalised and quoted phrases of plain text, drawn by the square root of how often."""

    def __init__(self, documents: Iterable[str], lower: bool):
        count: collections.Counter[str] = collections.Counter()
        for document in documents:
            for phrase in itertools.chain(_NAME.findall(document), _QUOTED.findall(document)):
                words = re.findall(r"[\w'’]+", phrase)
                if 0 < len(words) <= _LONGEST_NAME:
                    count[" ".join(words)] += 1
        self._phrases = [(key.lower() if lower else key).split() for key in count]
        self._sums = list(itertools.accumulate(math.sqrt(times) for times in count.values()))

    def __len__(self) -> int:
        return len(self._phrases)

    def draw(self, rng: random.Random) -> list[str]:
        """Returns the words of one."""
        return self._phrases[bisect.bisect(self._sums, rng.random() * self._sums[-1])]
