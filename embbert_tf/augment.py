"""Training texts with other rare words in them.

In a command such as "find the terror within" it is the frequent words around a name that tell the
class, and names in use are mostly new ones. A model that sees a few thousand texts learns the names
by heart instead. Exchanging them, anew in each epoch, leaves it the frequent words.
"""

import collections
import dataclasses
import re

import numpy as np

from embbert_tf import data as data_lib

_WORD = re.compile(r"\w+")
_UNCHANGED = 0.4  # Share of texts that stay as they are: names may tell something, too.
_LEFT_OUT = 0.1  # Of the exchanged words; as many get a second word behind them.


class RareWords:
    """Exchanges rare words for other rare words.

    Example:
    ```python
    rare = RareWords(examples, share=0.5)
    for epoch in range(12):
        texts = rare.exchanged((seed, epoch))
    ```

    Args:
        examples: The training texts, `data.Example`s.
        share: Of the rare words in a text to exchange, in three texts of five.
        most: A word is rare that occurs in at most so many texts; upper and lower case are one.
    """

    def __init__(self, examples: list, share: float, most: int = 20):
        self._examples, self._share = examples, share
        count = collections.Counter()
        for example in examples:
            both = f"{example.text} {example.text_pair or ''}"
            count.update(set(_WORD.findall(both.lower())))
        self._rare = {word for word, texts in count.items() if texts <= most}
        self._donors = sorted(self._rare)

    def exchanged(self, seed: tuple[int, ...]) -> list[data_lib.Example]:
        """Returns as many examples, with the same labels; the same for the same seed."""
        rng = np.random.default_rng(seed)
        result = []
        for example in self._examples:
            if rng.random() < _UNCHANGED:
                result.append(example)
                continue
            pair = example.text_pair
            changed = {"text": self._change(example.text, rng)}
            if pair is not None:
                changed["text_pair"] = self._change(pair, rng)
            result.append(dataclasses.replace(example, **changed))
        return result

    def _change(self, text: str, rng: np.random.Generator) -> str:
        def other(match):
            word = match.group()
            if word.lower() not in self._rare or rng.random() >= self._share:
                return word
            fate = rng.random()
            if fate < _LEFT_OUT:
                return ""
            words = self._donors[rng.integers(len(self._donors))]
            if fate > 1.0 - _LEFT_OUT:
                words += " " + self._donors[rng.integers(len(self._donors))]
            return words

        return _WORD.sub(other, text)
