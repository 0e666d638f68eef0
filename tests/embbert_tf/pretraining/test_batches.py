"""Packing, masking and cutting of pre-training batches."""

import gzip

import numpy as np
import pytest

from embbert_tf import errors
from embbert_tf.data import plain_text
from embbert_tf.data.tokenizer import train_tokenizer
from embbert_tf.model.special_tokens import CLS, MASK, SEP, UNK
from embbert_tf.pretraining import batches as batches_lib
from embbert_tf.pretraining import corpus
from embbert_tf.pretraining.options import PretrainOptions

TEXT = [
    f"number {i} is an unusually interesting one. it follows {i - 1}! does {i + 1} come next? yes."
    for i in range(200)
]


@pytest.fixture(scope="module", name="tokenizer")
def _tokenizer():
    return train_tokenizer(TEXT, 60)


@pytest.fixture(scope="module", name="text")
def _text(tokenizer):
    return corpus.tokenize(TEXT, tokenizer)


def test_reads_plain_and_compressed(tmp_path):
    plain, packed = tmp_path / "a.txt", tmp_path / "b.txt.gz"
    plain.write_bytes(b"eins\n\n  zwei  \r\ndrei")
    packed.write_bytes(gzip.compress("vier é\n".encode()))
    assert list(plain_text.read_documents([plain, packed])) == ["eins", "zwei", "drei", "vier é"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"one\ntwo \xff\n", r"a\.txt:2: byte 0xff at position 5"),
        (
            "a.txt.gz",
            gzip.compress(b"one\n" * 9999, mtime=0)[:-20],
            r"a\.txt\.gz:\d+: cannot be read",
        ),
        ("a.txt.gz", b"plain", r"a\.txt\.gz:1: cannot be read"),
        ("missing.txt", None, r"missing\.txt:1: cannot be read"),
    ],
)
def test_unreadable_text(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.CorpusError, match=message):
        list(plain_text.read_documents([path]))


def test_words_and_sentences(tokenizer):
    text = corpus.tokenize(["is unusually. yes", "no [SEP] more"], tokenizer)
    pieces = [tokenizer.id_to_token(i) for i in text.ids]
    words = []
    for piece, first in zip(pieces, text.word_starts, strict=True):
        words = [*words, piece] if first else [*words[:-1], words[-1] + piece]
    assert words[:5] == ["is", "unusually", ".", "yes", "no"]
    assert text.ids.min() >= UNK and SEP not in text.ids
    # One place to cut: before "yes". The next document's start is none.
    assert [pieces[i] for i in np.flatnonzero(text.splits)] == [pieces[pieces.index(".") + 1]]
    assert text.splits.sum() == 1


def test_cache_gives_the_same_and_knows_other_text(tmp_path, tokenizer, text):
    path = tmp_path / "t.txt"
    path.write_text("\n".join(TEXT))
    for _ in range(2):
        loaded = corpus.load_or_tokenize([path], tokenizer, tmp_path / "cache")
        for name in ("ids", "word_starts", "splits"):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(text, name))
    path.write_text("\n".join(TEXT[:50]))
    shorter = corpus.load_or_tokenize([path], tokenizer, tmp_path / "cache")
    assert len(shorter.ids) < len(text.ids)
    with pytest.raises(errors.CorpusError, match="cannot be read"):
        corpus.load_or_tokenize([tmp_path / "none"], tokenizer, tmp_path / "cache")
    path.write_text("\n \n")
    with pytest.raises(errors.CorpusError, match="empty"):
        corpus.load_or_tokenize([path], tokenizer, tmp_path / "cache")


def _restore(batch):
    """Undoes the masking."""
    ids = batch.ids.copy()
    for row in range(len(ids)):
        used = batch.weights[row] == 1
        ids[row, batch.positions[row, used]] = batch.labels[row, used]
    return ids


def _batches(text, steps=200, **options):
    options = {"steps": steps, "batch_tokens": 512, "lengths": (32,), **options}
    return batches_lib.Batches(text, 60, PretrainOptions(**options))


def test_an_epoch_covers_the_corpus_once(text):
    windows = len(text.ids) // 32 - 1
    batches = _batches(text, steps=windows // 16 + 2, next_sentence=0.0)
    rows = np.concatenate([_restore(batches.part(step)) for step in range(windows // 16 + 1)])
    epoch = rows[:windows]
    assert (epoch[:, 0] == CLS).all()
    # Numbered tokens tell where a row came from.
    numbered = corpus.Corpus(
        np.arange(5, 5 + len(text.ids), dtype=np.int32), text.word_starts, text.splits
    )
    batches = _batches(numbered, steps=windows // 16 + 2, next_sentence=0.0)
    rows = np.concatenate([_restore(batches.part(step)) for step in range(windows // 16 + 1)])
    seen = rows[:windows, 1:].ravel()
    assert len(np.unique(seen)) == len(seen) == windows * 31
    assert (np.diff(rows[:, 1:], axis=1) == 1).all()


@pytest.mark.parametrize("whole_words", [False, True])
def test_masking(text, whole_words):
    batches = _batches(text, whole_words=whole_words, next_sentence=0.5)
    kinds = {"mask": 0, "same": 0, "other": 0}
    masked = total = 0
    for step in range(150):
        batch = batches.part(step)
        original = _restore(batch)
        assert batch.positions.shape[1] == batches_lib.masked_places(32) == 4
        for row in range(len(batch.ids)):
            used = batch.positions[row, batch.weights[row] == 1]
            assert len(set(used)) == len(used)
            assert not np.isin(original[row, used], [CLS, SEP, MASK]).any()
            for position in used:
                now, before = batch.ids[row, position], original[row, position]
                kinds["mask" if now == MASK else "same" if now == before else "other"] += 1
            untouched = np.setdiff1d(np.arange(32), used)
            assert (batch.ids[row, untouched] != MASK).all()
            masked += len(used)
            total += 32
    assert (0.124 if not whole_words else 0.06) < masked / total <= 0.125
    share = {kind: count / masked for kind, count in kinds.items()}
    assert abs(share["mask"] - 0.8) < 0.02
    assert abs(share["same"] - 0.1) < 0.02 and abs(share["other"] - 0.1) < 0.02


def test_whole_words_are_masked_whole():
    random = np.random.default_rng(0)
    ids = np.arange(5, 45)
    ids[0] = CLS
    starts = np.ones(40, bool)
    starts[[3, 4, 11, 20, 21, 22]] = False
    for _ in range(200):
        chosen = set(batches_lib.choose(ids, starts, 6, True, random))
        assert len(chosen) <= 6 and 0 not in chosen
        for word in ({2, 3, 4}, {10, 11}, {19, 20, 21, 22}):
            assert word <= chosen or not word & chosen


def test_pairs(text):
    batches = _batches(text, next_sentence=0.8)
    follows = pairs = rows = 0
    stream = text.ids.astype(np.uint16).tobytes()
    for step in range(100):
        batch = batches.part(step)
        original = _restore(batch)
        for row in range(len(original)):
            cuts = np.flatnonzero(original[row] == SEP)
            assert len(cuts) == batch.is_pair[row]
            rows += 1
            if len(cuts):
                pairs += 1
                whole = np.delete(original[row], [0, cuts[0]]).astype(np.uint16).tobytes()
                if batch.follows[row]:
                    assert whole in stream
                follows += batch.follows[row]
            else:
                assert batch.follows[row] == 0
    # Where no sentence begins near the middle there is no pair.
    assert 0.25 < pairs / rows < 0.8
    assert 0.45 < follows / pairs < 0.55


def test_shares_make_up_the_batch(text):
    batches = _batches(text, batch_tokens=700, lengths=(16, 48))
    lengths = set()
    for step in range(20):
        whole = batches.part(step)
        again = _batches(text, batch_tokens=700, lengths=(16, 48)).part(step)
        parts = [batches.part(step, index, 3) for index in range(3)]
        for name in ("ids", "positions", "labels", "weights", "follows", "is_pair"):
            together = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(together, getattr(whole, name))
            np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
        lengths.add(whole.ids.shape[1])
        assert whole.ids.shape == (700 // batches.length(step), batches.length(step))
    assert lengths == {16, 48}
    assert batches.part(0, 0, 100).ids.shape[0] == 0


def test_too_little_text(text):
    short = corpus.Corpus(text.ids[:50], text.word_starts[:50], text.splits[:50])
    with pytest.raises(errors.CorpusError, match="fewer than two sequences of 32"):
        _batches(short)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": (4,)}, "sequences of 4 tokens are too short"),
        ({"lengths": ()}, "give at least one"),
        ({"lengths": ("16",)}, "'16' is no whole number"),
        ({"batch_tokens": 16}, "longer than a batch of batch_tokens=16"),
        ({"steps": 0}, "at least 1"),
        ({"next_sentence": 1.5}, "at most 1"),
        ({"learning_rate": float("nan")}, "at least 0"),
        ({"preset": "huge"}, "must be one of"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(errors.OptionError, match=message):
        PretrainOptions(**{"lengths": (32,), **options})
