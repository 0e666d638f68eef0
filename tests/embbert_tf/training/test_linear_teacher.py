"""The linear model that teaches beside runs: each kind of task, many classes, odd texts."""

import numpy as np
import pytest

from embbert_tf import errors
from embbert_tf.data.examples import Example
from embbert_tf.training.linear_teacher import LinearTeacher


def test_tells_classes_by_words_and_by_pieces_of_them():
    words = {"on": ["start", "begin"], "off": ["halt", "end"], "ask": ["which", "where"]}
    rows = [Example(f"{word} the {thing}", None, label)
            for label, found in words.items() for word in found
            for thing in ("pump", "fan", "valve")]  # fmt: skip
    teacher = LinearTeacher(rows, list(words), "train.csv")
    said = teacher.says([Example(text, None, "") for text in
                         ("begin the heater", "halting a lamp", "where is it", "")])  # fmt: skip
    assert said.shape == (4, 3)
    np.testing.assert_allclose(said.sum(axis=1), 1)
    assert said[:3].argmax(axis=1).tolist() == [0, 1, 2]


def test_two_classes_have_a_probability_each():
    yes = [Example(text, None, "yes") for text in ("good film", "a good one")]
    no = [Example(text, None, "no") for text in ("bad film", "a bad one")]
    said = LinearTeacher(yes + no, ["no", "yes"], "a.csv").says([Example("good", None, "")])
    assert said.shape == (1, 2) and said[0, 1] > 0.6


def test_a_pair_is_told_by_what_both_texts_have():
    texts = ["a red car", "blue sky today", "cold tea"]
    same = zip(texts, ["the red car", "sky so blue", "cold tea"], strict=True)
    other = zip(texts, ["cold tea", "the red car", "sky so blue"], strict=True)
    rows = [Example(*pair, "same") for pair in same] + [Example(*pair, "other") for pair in other]
    said = LinearTeacher(rows, ["other", "same"], "p.csv").says(
        [Example("green door here", "a green door", ""), Example("green door here", "old man", "")]
    )
    assert said[0, 1] > said[1, 1]


def test_a_regression_says_scores():
    rows = [Example("fine " * count + "poor", None, str(count)) for count in range(6)]
    said = LinearTeacher(rows, [], "train.csv").says([row for row in rows if row.label in "05"])
    assert said.shape == (2, 1) and said[1, 0] > said[0, 0] + 2


def test_500_classes_and_texts_of_any_kind():
    rows = [Example(f"word{n} {'é' * (n % 7)}", None, str(n)) for n in range(500)]
    rows += [Example("🙂 " * 10_000, None, "0"), Example("!", None, "1")]
    labels = [str(n) for n in range(500)]
    said = LinearTeacher(rows, labels, "train.csv").says(rows[:500])
    assert np.mean(said.argmax(axis=1) == np.arange(500)) > 0.95


def test_refuses():
    rows = [Example("a text", None, "on"), Example("another", None, "off")]
    with pytest.raises(errors.DataError, match=r"train.csv: no text of the class 'idle'"):
        LinearTeacher(rows, ["idle", "off", "on"], "train.csv")
    with pytest.raises(errors.DataError, match="label 'on' does not occur"):
        LinearTeacher(rows, ["off", "up"], "train.csv")
    with pytest.raises(errors.DataError, match=r"train.csv.*'on'"):
        LinearTeacher(rows, [], "train.csv")
