"""Scored pairs out of plain text."""

import csv

import numpy as np
import pytest

from embbert_tf import errors
from embbert_tf.synthesis import pairs as pairs_lib
from tests.support.runs import run_command

THINGS = ["kettle", "lantern", "violin", "ladder", "pillow", "anchor", "compass", "barrel"]


def documents():
    """Documents of two sentences, each with words of its own."""
    for number, thing in enumerate(THINGS):
        other = THINGS[number - 1]
        yield (
            f"The {thing} number {number} stands near a red door. "
            f"Nobody has seen the {thing} or the {other} since!"
        )


@pytest.fixture
def maker():
    return pairs_lib.PairMaker(documents(), most=100, seed=0)


def test_score_is_the_cosine_of_the_words_weights(maker):
    whole = ["The", "kettle", "stands", "near", "a", "red", "door", "."]
    assert maker.score(whole, whole) == pytest.approx(5)
    assert maker.score(
        whole, ["THE", "KETTLE", "stands", "near", "a", "Red", "door", "!"]
    ) == pytest.approx(5)
    assert maker.score(whole, [*reversed(whole)]) == pytest.approx(5)
    assert maker.score(whole, ["Nobody", "has"]) == 0
    assert maker.score(whole, ["!"]) == 0
    # "kettle" is in two sentences, "the" in all sixteen: a word that both texts share counts as
    # much more as it is rarer.
    rare, frequent = (maker.score([word, "nobody"], [word, "stands"]) for word in ("kettle", "the"))
    n = 16 + 1
    idf = {"kettle": np.log(n / 3), "the": np.log(n / 16), "nobody": np.log(n / 8)}
    idf["stands"] = np.log(n / 8)
    expected = idf["kettle"] ** 2 / (idf["kettle"] ** 2 + idf["nobody"] ** 2)
    assert rare == pytest.approx(5 * expected)
    assert frequent < 0.1 < rare
    # A word that no text had is the rarest.
    assert maker.score(["zebra", "the"], ["zebra", "stands"]) > rare


def test_pairs_are_of_every_kind_and_their_scores_fit(maker):
    pairs = [maker.pair() for _ in range(2000)]
    scores = np.array([score for _, _, score in pairs])
    assert scores.min() >= 0 and scores.max() <= 5 + 1e-9
    counts, _ = np.histogram(scores, 5, (0, 5))
    assert counts.min() > 100, "every degree of likeness is there"
    for first, second, score in pairs:
        assert first.strip() and second.strip()
        assert max(len(first.split()), len(second.split())) <= 36
        again = maker.score(first.split(), second.split())
        assert again == pytest.approx(score)


def test_the_same_seed_makes_the_same_pairs():
    makers = [pairs_lib.PairMaker(documents(), most=100, seed=seed) for seed in (3, 3, 4)]
    made = [[maker.pair() for _ in range(5)] for maker in makers]
    assert made[0] == made[1] != made[2]


def test_as_many_documents_are_kept_as_asked_for():
    # A document has two of the things.
    maker = pairs_lib.PairMaker(documents(), most=2, seed=0)
    words = {word for _ in range(300) for text in maker.pair()[:2] for word in text.split()}
    assert 2 <= len(words & set(THINGS)) <= 4
    # All documents count for the weights.
    assert maker.score(["the", "red"], ["the", "since"]) < 0.1


def test_command_writes_what_training_reads(tmp_path):
    source, target = tmp_path / "texts.txt", tmp_path / "pairs.csv"
    source.write_text("\n".join(documents()) + "\n")
    done = run_command(
        "embbert_tf.make_pairs", f"--input={source}", f"--output={target}", "--count=50"
    )
    assert done.returncode == 0, done.stderr
    assert "50 pairs" in done.stdout
    with open(target, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 50 and [*rows[0]] == ["text", "text_pair", "label"]
    assert all(0 <= float(row["label"]) <= 5 for row in rows)
    first = target.read_bytes()
    assert (
        run_command(
            "embbert_tf.make_pairs", f"--input={source}", f"--output={target}", "--count=50"
        ).returncode
        == 0
    )
    assert target.read_bytes() == first


def test_mistakes_are_named(tmp_path):
    few = tmp_path / "few.txt"
    few.write_text("One sentence of five words.\n")
    target = tmp_path / "pairs.csv"
    for arguments, words in (
        ([f"--input={tmp_path / 'none.txt'}", f"--output={target}"], "none.txt"),
        ([f"--input={few}", f"--output={target}"], "two documents are needed"),
        ([f"--input={few}", f"--output={tmp_path / 'no' / 'pairs.csv'}"], "there is no folder"),
    ):
        done = run_command("embbert_tf.make_pairs", *arguments)
        assert done.returncode == 1
        assert words in done.stderr and done.stderr.count("\n") == 1
    with pytest.raises(errors.CorpusError, match="one with two sentences"):
        pairs_lib.PairMaker(["A text of one sentence.", "Another text of one sentence."], 9, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["few.txt"]
