"""Pre-training of the compared models: they learn, and a classifier starts from them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import embbert_tf
from embbert_tf import errors
from embbert_tf.baselines import any_model
from embbert_tf.baselines.config import ARCHITECTURES
from embbert_tf.data.tokenizer import load_tokenizer, train_tokenizer
from embbert_tf.pretraining import batches as batches_lib
from embbert_tf.pretraining import corpus
from embbert_tf.pretraining import trainer as trainer_lib
from embbert_tf.pretraining.options import PretrainOptions
from embbert_tf.storage import backbone_folder
from tests.support.runs import run_command, small_rows

SMALL = {"max_length": 32, "hidden_size": 16, "num_layers": 1, "dropout": 0.0}


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("architectures")
    lines = [f"{text} now. {text} later." for text, _ in small_rows()] * 2
    (folder / "text.txt").write_text("\n".join(lines))
    train_tokenizer(lines, 150).save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("name", ["bert", "mamba"])
def test_learns_and_is_a_start(name, folder, tmp_path, small_csv):
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    config = dataclasses.replace(
        ARCHITECTURES[name], vocab_size=tokenizer.get_vocab_size(), **SMALL
    )
    options = PretrainOptions(
        architecture=name, steps=40, learning_rate=0.02, warm_up=3, batch_tokens=256,
        lengths=(16,), checkpoint_steps=40, log_steps=5, bag_of_words=0.1,
    )  # fmt: skip
    trainer = trainer_lib.Trainer(config, options, tf.distribute.get_strategy())
    text = corpus.load_or_tokenize([folder / "text.txt"], tokenizer, tmp_path / "cache")
    batches = batches_lib.Batches(text, tokenizer.get_vocab_size(), options)
    figures = trainer_lib.run_training(trainer, batches, tmp_path, "key")
    assert figures["masked_loss"] < 3.5 < np.log(config.vocab_size)

    backbone = any_model.new_backbone(config)
    backbone.set_weights(trainer.model.backbone.get_weights())
    start = tmp_path / "start"
    backbone_folder.save_backbone(start, backbone, folder / "tokenizer.json", {})
    loaded = backbone_folder.load_backbone(start)
    assert loaded.config == config
    ids = np.array([[2, 7, 9, 0]])
    np.testing.assert_array_equal(loaded.model(ids).numpy(), backbone(ids).numpy())

    options = embbert_tf.TrainOptions(init=start, epochs=1, keep="last")
    run = embbert_tf.train(small_csv, output=tmp_path / "run", options=options)
    assert run.config.kind == config.kind and run.model.backbone.count_params() > 0
    # What takes an EmbBERT alone says so.
    for take in (backbone_folder.load_embbert, _classifier_of):
        with pytest.raises(errors.RunError, match=f"holds {config.what}, and this takes"):
            take(start)


def _classifier_of(path):
    return embbert_tf.EmbBertClassifier.from_preset(path, num_labels=2)


def test_options():
    with pytest.raises(errors.OptionError, match="leave preset away"):
        PretrainOptions(architecture="mamba", preset="nano")
    assert "architecture" not in PretrainOptions(architecture="mamba").identity()
    done = run_command("embbert_tf.pretrain", "--architecture=gpt", "--input=a", "--output=b")
    assert done.returncode == 1 and "gpt" in done.stderr
