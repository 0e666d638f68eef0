"""A sentence encoder as a teacher: its file, the batches, the losses, and that it teaches."""

import dataclasses
import json
import zlib

import numpy as np
import pytest
import tensorflow as tf

from embbert_tf import errors
from embbert_tf.data.tokenizer import load_tokenizer, train_tokenizer
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.model.special_tokens import CLS, MASK, SEP
from embbert_tf.pretraining import batches as batches_lib
from embbert_tf.pretraining import corpus, embed, encoder, pretrain, taught_batches
from embbert_tf.pretraining import embeddings as embeddings_lib
from embbert_tf.pretraining import model as model_lib
from embbert_tf.pretraining import trainer as trainer_lib
from embbert_tf.pretraining.embeddings import Embeddings
from embbert_tf.pretraining.options import EmbedOptions, PretrainOptions
from tests.support.runs import run_command

CONFIG = EmbBertConfig(
    vocab_size=120, max_length=64, hidden_size=16, reduced_size=8, num_layers=1, kernel_size=4
)
WORDS = ["red", "green", "blue", "small", "large", "old", "new", "cold", "warm", "dark"]
SIZE = 6


def _encode(texts):
    """A stand-in for an encoder: the sum of a random direction for each word, of length 1."""
    rows = []
    for text in texts:
        seeds = [zlib.crc32(word.encode()) for word in text.replace(".", "").split()]
        rows.append(sum(np.random.default_rng(seed).normal(size=SIZE) for seed in seeds))
    rows = np.array(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    random = np.random.default_rng(0)
    lines = []
    for _ in range(300):
        word, other, third = random.choice(WORDS, 3)
        lines.append(f"the {word} thing is {other}. it was {third} and {third} once more.")
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "text.txt").write_text("\n".join(lines))
    train_tokenizer(lines, CONFIG.vocab_size).save(str(folder / "tokenizer.json"))
    embed.embed_texts([folder / "text.txt"], folder / "rows.safetensors", encoder=_encode)
    return folder


@pytest.fixture(scope="module", name="made")
def _made(folder):
    """Batches, embeddings and tokenizer."""
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    embeddings = embeddings_lib.read_embeddings(folder / "rows.safetensors")
    text = corpus.load_or_tokenize([folder / "text.txt"], tokenizer, folder / "cache")
    options = PretrainOptions(
        steps=60, batch_tokens=256, lengths=(32, 64), text_steps=0.4, pair_steps=0.3
    )
    made = taught_batches.TaughtBatches(text, embeddings, tokenizer, options)
    return made, embeddings, tokenizer


def _restore(batch, row):
    """Returns a row's ids as they were before tokens were masked, without padding."""
    ids = batch.ids[row].copy()
    used = batch.weights[row] > 0
    ids[batch.positions[row][used]] = batch.labels[row][used]
    return ids[ids != 0]


def _kind(batch):
    return "text" if batch.embeddings.shape[1] else "pair" if batch.is_close.any() else "corpus"


def test_each_text_comes_with_its_own_embedding_and_each_pair_with_its_cosine(made):
    batches, embeddings, tokenizer = made
    by_ids = {}
    for text, row in zip(embeddings.texts, embeddings.rows, strict=True):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        by_ids[tuple(ids)] = row.astype(np.float32)
    seen = {"text": 0, "pair": 0, "corpus": 0}
    masked, closeness = [], []
    for step in range(60):
        batch = batches.part(step)
        seen[_kind(batch)] += 1
        assert batch.ids.shape == (batches.rows(step), batches.length(step))
        for row in range(len(batch.ids)):
            ids = _restore(batch, row)
            if _kind(batch) == "text":
                assert ids[0] == CLS
                np.testing.assert_array_equal(batch.embeddings[row], by_ids[tuple(ids[1:])])
                np.testing.assert_array_equal(batch.words[row][batch.words[row] != 0], ids)
                masked.append(batch.weights[row].any())
            elif _kind(batch) == "pair":
                cut = list(ids).index(SEP)
                one, other = by_ids[tuple(ids[1:cut])], by_ids[tuple(ids[cut + 1 :])]
                assert batch.closeness[row] == pytest.approx(one @ other, abs=1e-5)
                closeness.append(batch.closeness[row])
                assert not batch.words[row].any() and not batch.weights[row].any()
    assert min(seen.values()) >= 10
    assert 0.4 < np.mean(masked) < 0.8
    # Half of the partners are near ones, half are any.
    assert np.mean(np.array(closeness) > 0.8) > 0.35 and np.mean(np.array(closeness) < 0.5) > 0.1


def test_a_batch_is_a_function_of_the_step_and_its_shares_are_the_whole(made):
    batches = made[0]
    for step in range(12):
        whole, again = batches.part(step), batches.part(step)
        parts = [batches.part(step, index, 3) for index in range(3)]
        for field in dataclasses.fields(whole):
            expected = getattr(whole, field.name)
            np.testing.assert_array_equal(expected, getattr(again, field.name))
            joined = np.concatenate([getattr(part, field.name) for part in parts])
            np.testing.assert_array_equal(expected, joined)


def test_losses_are_those_of_the_formulas():
    random = np.random.default_rng(1)
    rows, n = 5, 12
    batch = batches_lib.Batch.empty(rows, n, SIZE)
    batch.ids[:, 0] = batch.words[:, 0] = CLS
    batch.ids[:, 1:9] = batch.words[:, 1:9] = random.integers(SEP + 1, 120, (rows, 8))
    batch.words[4] = 0
    batch.ids[0, 3] = MASK
    batch.embeddings[:] = _encode([f"{word} thing" for word in WORDS[:rows]])
    batch.is_close[:2], batch.closeness[:2] = 1, [0.3, -0.2]
    tf.random.set_seed(0)
    model = model_lib.EmbBertPretrainer(CONFIG, bag_of_words=True, embedding_size=SIZE)
    model((batch.ids, batch.positions))
    options = PretrainOptions(bag_of_words=0.4, teacher_weight=0.7)
    loss, sums = model_lib.losses(model, dataclasses.astuple(batch), rows, options)
    sums = dict(zip(model_lib.SUMS, sums.numpy(), strict=True))

    first = model.backbone(batch.ids).numpy()[:, 0].astype(np.float64)

    def head(layer):
        return first @ layer.kernel.numpy().astype(np.float64) + layer.bias.numpy()

    def log_softmax(z):
        z = z - z.max(axis=1, keepdims=True)
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    chances = log_softmax(head(model.words))
    bag = -sum(chances[row, batch.words[row, 1:9]].mean() for row in range(4))
    guess = head(model.embedding)
    guess /= np.linalg.norm(guess, axis=1, keepdims=True)
    cosine = np.sum(guess * batch.embeddings)

    def relations(z):
        products = z @ z.T / 0.05
        np.fill_diagonal(products, -1e9)
        return log_softmax(products)

    teacher, student = relations(batch.embeddings.astype(np.float64)), relations(guess)
    divergence = np.sum(np.exp(teacher) * (teacher - student))
    error = np.sum((np.tanh(head(model.closeness)[:2, 0]) - [0.3, -0.2]) ** 2)
    assert sums["words_loss"] == pytest.approx(bag, rel=1e-5) and sums["bags"] == 4
    assert sums["cosine"] == pytest.approx(cosine, rel=1e-4) and sums["embedded"] == rows
    assert sums["closeness_error"] == pytest.approx(error, rel=1e-5) and sums["close_pairs"] == 2
    teaching = 0.7 * (rows - cosine + 0.2 * divergence + 10 * error)
    assert float(loss) == pytest.approx((0.4 * bag + teaching) / rows, rel=1e-4)


@pytest.mark.slow
def test_the_teacher_is_learnt_from(folder, tmp_path):
    options = PretrainOptions(
        steps=80,
        batch_tokens=512,
        lengths=(32,),
        learning_rate=0.01,
        muon_rate=0.02,
        warm_up=5,
        log_steps=20,
        ema=0.9,
        text_steps=0.8,
        pair_steps=0.1,
    )
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    embeddings = embeddings_lib.read_embeddings(folder / "rows.safetensors")
    text = corpus.load_or_tokenize([folder / "text.txt"], tokenizer, folder / "cache")
    batches = taught_batches.TaughtBatches(text, embeddings, tokenizer, options)
    trainer = trainer_lib.Trainer(CONFIG, options, tf.distribute.get_strategy(), SIZE)
    trainer_lib.run_training(trainer, batches, tmp_path, "key")
    lines = [json.loads(line) for line in (tmp_path / trainer_lib.LOG).open()]
    assert lines[-1]["cosine"] > 0.68 > 0.5 > lines[0]["cosine"]
    assert lines[-1]["words_loss"] < lines[0]["words_loss"] - 0.5
    assert lines[-1]["masked_loss"] < lines[0]["masked_loss"] - 0.5
    assert lines[-1]["closeness_error"] < 0.3 < lines[0]["closeness_error"]
    own = trainer.model.backbone.get_weights()
    with trainer.averaged():
        averaged = trainer.model.backbone.get_weights()
    assert any(np.abs(a - b).max() > 1e-5 for a, b in zip(own, averaged, strict=True))
    for a, b in zip(own, trainer.model.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_stopped_run_of_the_encoder_goes_on(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embed, "_PART", 90)
    output, asked = tmp_path / "rows.safetensors", []

    def dying(texts):
        if len(asked) == 2:
            raise KeyboardInterrupt
        return encode(texts)

    def encode(texts):
        asked.append(len(texts))
        return _encode(texts)

    dying.__name__ = encode.__name__
    options = EmbedOptions(count=200)
    with pytest.raises(KeyboardInterrupt):
        embed.embed_texts([folder / "text.txt"], output, encoder=dying, options=options)
    assert not output.exists()
    with pytest.raises(errors.RunError, match="begun with other settings"):
        embed.embed_texts([folder / "text.txt"], output, encoder=encode)
    embed.embed_texts([folder / "text.txt"], output, encoder=encode, options=options)
    assert asked == [90, 90, 20]
    assert [path.name for path in tmp_path.iterdir()] == [output.name]
    made = embeddings_lib.read_embeddings(output)
    assert len(set(made.texts)) == 200 and made.encoder == "encode"
    np.testing.assert_allclose(made.rows, _encode(made.texts), atol=1e-3)
    assert "200/200 texts" in capsys.readouterr().out
    embed.embed_texts([folder / "text.txt"], output, encoder=encode, options=options)
    assert "nothing to do" in capsys.readouterr().out and len(asked) == 3
    with pytest.raises(errors.RunError, match="holds other embeddings"):
        embed.embed_texts([folder / "text.txt"], output, encoder=encode)


def test_half_of_the_texts_are_sentences():
    document = " ".join(f"word{i} is the word of sentence {i}." for i in range(40))
    documents = [document.replace("word", f"w{i}o") for i in range(50)]
    sentences = embed.draw_texts(documents, EmbedOptions(count=10**6, sentences=1.0))
    assert len(sentences) == 50 * 40 and all(text.count(".") == 1 for text in sentences)
    mixed = embed.draw_texts(documents, EmbedOptions(count=10**6))
    assert 0.4 < np.mean([text.count(".") == 1 for text in mixed]) < 0.65
    assert max(text.count(" ") + 1 for text in mixed) <= 180
    assert embed.draw_texts(documents, EmbedOptions(count=7)) == embed.draw_texts(
        documents, EmbedOptions(count=7)
    )
    assert embed.draw_texts(["Same. Same. 123. ?!"], EmbedOptions(sentences=1.0)) == ["Same."]
    with pytest.raises(errors.CorpusError, match="empty"):
        embed.draw_texts(["...", "7"], EmbedOptions())


def test_an_encoder_that_gives_no_row_for_each_text_is_refused(folder, tmp_path):
    for wrong in (lambda texts: np.zeros(3), lambda texts: np.full((len(texts), 2), np.nan)):
        with pytest.raises(errors.EncoderError, match="a row of finite numbers"):
            embed.embed_texts([folder / "text.txt"], tmp_path / "a.safetensors", encoder=wrong)
        assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(
    ("rows", "texts", "message"),
    [
        (np.full((2, 3), 0.7), ["a", "b"], "length 1.21, not 1"),
        (np.array([[1, 0], [np.nan, 0]]), ["a", "b"], "text 2 has the length nan"),
        (np.eye(2), ["a"], r"\[2, 2\] embeddings for \[1\] texts"),
    ],
)
def test_embeddings_that_cannot_be_right_are_refused(tmp_path, rows, texts, message):
    path = tmp_path / "rows.safetensors"
    embeddings_lib.write_embeddings(path, Embeddings(texts, rows))
    with pytest.raises(errors.EncoderError, match=message):
        embeddings_lib.read_embeddings(path)


def test_a_file_of_something_else_is_refused(folder, tmp_path):
    path = tmp_path / "rows.safetensors"
    good = (folder / "rows.safetensors").read_bytes()
    for content in (b"", b"text", good[:-100]):
        path.write_bytes(content)
        with pytest.raises(errors.EncoderError, match=r"rows\.safetensors"):
            embeddings_lib.read_embeddings(path)
    arguments = [f"--input={folder / 'text.txt'}", f"--output={tmp_path / 'out'}"]
    done = run_command("embbert_tf.pretrain", *arguments, f"--embeddings={path}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "rows" in done.stderr
    done = run_command("embbert_tf.pretrain", *arguments, f"--embeddings={tmp_path / 'none'}")
    assert done.returncode == 1 and "cannot be opened" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_encoder_may_be_a_folder_or_a_package(tmp_path, monkeypatch):
    (tmp_path / "modules.json").write_text("[]")
    assert encoder.find_folder(tmp_path) == tmp_path
    package = tmp_path / "site" / "some_encoder" / "model"
    package.mkdir(parents=True)
    (package / "modules.json").write_text("[]")
    about = tmp_path / "site" / "some_encoder-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-encoder\nVersion: 1.0\n")
    (about / "RECORD").write_text("some_encoder/model/modules.json,,\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert encoder.find_folder("some-encoder") == package
    assert encoder.find_folder("no-such-encoder") is None
    assert encoder.find_folder("someone/on-the-hub") is None


def test_without_sentence_transformers_a_message_names_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    arguments = [f"--input={folder / 'text.txt'}", f"--output={folder / 'other.safetensors'}"]
    done = run_command("embbert_tf.embed_texts", *arguments, "--encoder=some-encoder")
    assert done.returncode == 1 and "pip install embbert-tflm[teacher]" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_pretraining_goes_on_with_the_same_embeddings_alone(folder, tmp_path):
    from tensorflow.python.framework import config as framework_config

    options = PretrainOptions(
        preset="test", vocab_size=120, steps=3, batch_tokens=256, lengths=(16,), stop_after=2
    )
    arguments = {"output": tmp_path / "out", "tokenizer": folder / "tokenizer.json"}
    try:
        with_them = arguments | {"embeddings": folder / "rows.safetensors"}
        assert pretrain.pretrain([folder / "text.txt"], **with_them, options=options) is None
        go_on = dataclasses.replace(options, stop_after=None)
        with pytest.raises(errors.RunError, match="other settings"):
            pretrain.pretrain([folder / "text.txt"], **arguments, options=go_on)
        assert pretrain.pretrain([folder / "text.txt"], **with_them, options=go_on) is not None
    finally:
        framework_config.disable_op_determinism()
