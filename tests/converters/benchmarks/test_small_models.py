"""The small models: what a text is to them, their integers, and their C on a board."""

import numpy as np
import pytest

from converters.benchmarks import model_rows
from converters.benchmarks import models as models_command
from converters.benchmarks.small_models import board, embeddings, features, tfidf
from converters.zoo import task_recipe
from embbert_tf import errors
from tests.support.runs import run_command

SENTENCES = {
    "light": ["turn the lamp on", "turn on the light", "the light off please", "lamp off"],
    "music": ["play some jazz", "play the next song", "play a song of jazz", "next song"],
    "weather": ["will it rain today", "is it cold today", "will it be cold", "is it to rain"],
}
TEXTS = [text for texts in SENTENCES.values() for text in texts]
ANSWERS = [label for label, texts in SENTENCES.items() for _ in texts]
# What a text may hold: none of the words, none at all, other scripts, case, more than is read.
ODD = ["", "!?", "ß Ünïcödé 灯", "TURN ON the LIGHT", "play the rain " * 300, "0 a" + "\x7f\x01"]


def fnv1a(data):
    hashed = 2166136261
    for byte in data:
        hashed = (hashed ^ byte) * 16777619 % 2**32
    return hashed


def test_a_feature_is_a_word_or_a_pair_by_its_hash():
    known = np.array(sorted(fnv1a(word) for word in (b"lamp", b"turn the", b"the")), np.uint32)
    expected = [fnv1a(b"the"), fnv1a(b"turn the"), fnv1a(b"lamp")]
    assert [known[i] for i in features.indices("Turn THE lamp", known)] == expected


def test_the_vocabulary_is_what_two_texts_have():
    known = features.vocabulary(["a b", "b c", "c"])
    assert sorted(known) == sorted([fnv1a(b"b"), fnv1a(b"c")])
    assert len(features.vocabulary(["a", "b"])) == 2  # where there is no such feature, all stay


def test_texts_end_after_so_many_words():
    known = features.vocabulary(["a", "a"])
    assert len(features.indices("a " * 600, known)) == features.MOST_WORDS


@pytest.fixture(scope="module", name="models")
def _models():
    """The second one's numbers are drawn: it has nothing to know."""
    rng, known = np.random.default_rng(0), features.vocabulary(TEXTS)
    shapes = [(len(known), embeddings.WIDTH), (3, embeddings.WIDTH), (3,)]
    drawn = [rng.normal(size=shape) for shape in shapes]
    return [
        tfidf.TfIdf.train(TEXTS, ANSWERS),
        embeddings.MeanEmbeddings(known, tuple(sorted(SENTENCES)), *drawn),
    ]


def test_tfidf_tells_the_sentences_apart(models):
    assert models[0].predict(TEXTS) == ANSWERS
    assert models[0].quantize().predict(TEXTS) == ANSWERS


@pytest.mark.slow
def test_mean_embeddings_learn(eager, monkeypatch):
    monkeypatch.setattr(embeddings, "_PATIENCE", 30)
    monkeypatch.setattr(embeddings, "_RATE", 0.1)
    monkeypatch.setattr(embeddings, "_EPOCHS", 12)
    texts, answers = TEXTS * 4 + ["!?"], ANSWERS * 4 + ["light"]
    model = embeddings.MeanEmbeddings.train(texts, answers)
    assert model.predict(TEXTS) == ANSWERS
    assert model.quantize().predict(TEXTS) == ANSWERS


def test_of_two_classes_each_has_its_weights():
    two = [(t, a) for t, a in zip(TEXTS, ANSWERS, strict=True) if a != "weather"]
    model = tfidf.TfIdf.train([t for t, _ in two], [a for _, a in two])
    assert model.weights.shape[1] == 2
    assert model.quantize().predict([t for t, _ in two]) == [a for _, a in two]


@pytest.mark.parametrize("which", [0, 1])
def test_a_board_answers_as_the_reference(models, which, tmp_path):
    exact = models[which].quantize()
    program = board.build(exact, "mps2-an386", tmp_path)
    answers, spent = program.run([*TEXTS, *ODD])
    assert answers == exact.predict([*TEXTS, *ODD])
    assert min(spent) > 0 and max(spent) == spent[len(TEXTS) + 4]
    tables = sum(array.nbytes for array in exact.arrays().values())
    assert tables < program.flash_bytes < tables + 20_000
    struct = 2 * 2 * features.MOST_WORDS + 4
    assert program.ram_bytes == struct + 4 * exact.width


def test_a_board_that_nothing_emulates_is_refused(models, tmp_path):
    with pytest.raises(errors.EmbBertError, match="no machine"):
        board.build(models[0].quantize(), "host", tmp_path)


def test_the_command_prints_a_row_a_model(tmp_path, monkeypatch, eager):
    for name in ("train", "valid", "test"):
        rows = [f"{text},{label}" for text, label in zip(TEXTS, ANSWERS, strict=True)]
        path = tmp_path / f"snips/{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["text,label", *rows]) + "\n")
    monkeypatch.setattr(models_command, "_SEEDS", (0,))
    monkeypatch.setattr(embeddings, "_EPOCHS", 2)
    rows = list(models_command.small_rows("snips", tmp_path, "mps2-an386", tmp_path))
    assert [row.model for row in rows] == ["TF-IDF, linear", "mean of embeddings, linear"]
    assert rows[0].int8 == [1.0] and 12 in rows[0].instructions
    cells = [cell.strip() for cell in rows[0].markdown().strip("|").split("|")]
    assert cells[:4] == ["snips", "TF-IDF, linear", *2 * ["100.00 [100.00..100.00]"]]
    assert len(cells) == model_rows.HEADER[0].count("|") - 1


def test_data_that_is_not_there_is_named(tmp_path):
    done = run_command("converters.benchmarks.models", f"--data={tmp_path}", "--tasks=cola")
    assert done.returncode == 1 and "cola/train.csv" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("task", "rows"), [("rte", "text,text_pair,label\na,b,c\n"),
                                           ("stsb", "text,text_pair,label\na,b,1\n")])  # fmt: skip
def test_pairs_and_scores_are_refused(tmp_path, task, rows):
    recipe = task_recipe.read(task)
    for name in recipe.data.files():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(rows)
    done = run_command("converters.benchmarks.models", f"--data={tmp_path}", f"--tasks={task}")
    assert done.returncode == 1 and f"--tasks={task}: the small models" in done.stderr
