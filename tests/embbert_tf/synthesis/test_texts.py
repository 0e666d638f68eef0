"""New texts out of training texts."""

import collections
import gzip
import re

import pytest

from embbert_tf import errors
from embbert_tf.data import examples as examples_lib
from embbert_tf.synthesis import texts as texts_lib
from tests.support.runs import run_command

FRAMES = [("play {} by the sea", "music"), ("find the film {} now", "film")]
NAMES = ["old kettle", "lantern", "violin of wood", "ladder", "anchor", "red barrel", "compass"]
# Each frame often, each name seldom: what is rare is a name.
EXAMPLES = [
    examples_lib.Example(frame.format(name), None, label)
    for frame, label in FRAMES
    for name in NAMES
    for _ in range(5)
]
RARE = {word for name in NAMES for word in name.split()}
FRAME_WORDS = {word for frame, _ in FRAMES for word in frame.replace("{}", "").split()}


def texts(count, examples=EXAMPLES, documents=(), seed=0):
    maker = texts_lib.TextMaker(examples, documents, seed)
    return [maker.text() for _ in range(count)]


def test_texts_are_new_and_none_comes_twice():
    made = texts(300)
    assert len(set(made)) == 300
    assert not set(made) & {example.text for example in EXAMPLES}


def test_words_are_those_of_the_training_texts():
    made = texts(300)
    assert {word for text in made for word in text.split()} == RARE | FRAME_WORDS


def test_most_texts_are_a_known_frame_with_a_name_of_any_label():
    frames = (
        "play {} by the sea",
        "hear {} on a hill",
        "find the film {} now",
        "where is {} shown",
    )
    labels = ("song", "song", "film", "film")
    examples = [
        examples_lib.Example(frame.format(f"{label}{number}{i}"), None, label)
        for number, (frame, label) in enumerate(zip(frames, labels, strict=True))
        for i in range(50)
    ]
    pattern = "|".join(frame.replace("{}", r"(song|film)\d+") for frame in frames)
    found = collections.Counter()
    for text in texts(200, examples):
        match = re.fullmatch(pattern, text)
        found[match and match.groups()] += 1
    assert found[None] < 100, "some have another word, no word or another tail"
    assert found["film", None, None, None] > 5, "names move between labels"
    assert found["song", None, None, None] > 5, "and between frames"


def test_names_come_out_of_plain_text_too():
    documents = ['Nobody liked The Terror, but many saw "Shattered Image" in Old London.'] * 3
    made = texts(300, documents=documents)
    assert any("shattered image" in text for text in made), "in small letters, as all texts are"
    assert any("old london" in text for text in made)
    assert not any("nobody" in text for text in made), "the first word is no name"
    capital = [*EXAMPLES, examples_lib.Example("Play a Saxophone", None, "music")]
    assert any("Shattered Image" in text for text in texts(300, capital, documents))


def test_the_same_seed_makes_the_same_texts():
    assert texts(20, seed=3) == texts(20, seed=3) != texts(20, seed=4)


def test_few_texts_run_out_with_a_message():
    with pytest.raises(errors.DataError, match="ask for fewer"):
        texts(
            100,
            [examples_lib.Example("stop", None, "stop"), examples_lib.Example("go", None, "go")],
        )


def test_command_writes_what_training_reads(tmp_path):
    train = tmp_path / "train.csv"
    train.write_text("text,label\n" + "".join(f"{e.text},{e.label}\n" for e in EXAMPLES))
    target = tmp_path / "texts.txt.gz"
    arguments = [f"--train={train}", f"--output={target}", "--count=50"]
    done = run_command("embbert_tf.make_texts", *arguments)
    assert done.returncode == 0, done.stderr
    assert "50 texts" in done.stdout
    with gzip.open(target, "rt") as file:
        lines = file.read().splitlines()
    assert lines == texts(50)
    first = target.read_bytes()
    assert run_command("embbert_tf.make_texts", *arguments).returncode == 0
    assert target.read_bytes() == first, "the hour is not in the file"


def test_mistakes_are_named(tmp_path):
    pairs, same = tmp_path / "pairs.csv", tmp_path / "same.csv"
    pairs.write_text("text,text_pair,label\none,other,x\n")
    same.write_text("text,label\n" + "stop now,x\n" * 30)
    few = tmp_path / "few.csv"
    few.write_text("text,label\nstop,x\ngo,y\n")
    target = tmp_path / "texts.txt"
    for arguments, words in (
        ([f"--train={tmp_path / 'none.csv'}", f"--output={target}"], "none.csv"),
        ([f"--train={pairs}", f"--output={target}"], "pairs.csv: has pairs"),
        ([f"--train={same}", f"--output={target}"], "no names to exchange"),
        ([f"--train={same}", f"--output={tmp_path / 'no' / 'texts.txt'}"], "there is no folder"),
        ([f"--train={few}", f"--output={target}"], "few.csv: 100 texts in a row were not new"),
        (
            [f"--train={few}", f"--names={tmp_path / 'none.txt'}", f"--output={target}"],
            "none.txt:1: cannot be read",
        ),
    ):
        done = run_command("embbert_tf.make_texts", *arguments)
        assert done.returncode == 1
        assert words in done.stderr and done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.csv", "pairs.csv", "same.csv"]
