"""BERT, NanoBERT, MAMBA and the embedder: published sizes, formulas and names."""

import dataclasses

import numpy as np
import pytest

from embbert_tf import errors
from embbert_tf.baselines.config import ARCHITECTURES, BaselineConfig

SIZES = {  # Published, without a head.
    "bert": 288_720,
    "nano_bert": 269_898,
    "bert_ea": 322_560,
    "bert_ne_ea": 364_772,
    "mamba": 219_968,
    "mamba_ne": 201_936,
    "embedder": 291_776,
    "embedder_conv": 297_216,
}
# A model of each kind, with wide and with narrow tables; the others differ in sizes alone.
EACH_KIND = [
    "bert",
    "bert_ne_ea",
    "mamba",
    "embedder_conv",
    pytest.param("embedder", marks=pytest.mark.slow),
]
IDS = np.array([[2, 7, 9, 0, 0, 0], [2, 8, 4, 10, 11, 4], [2, 0, 0, 0, 0, 0]], np.int32)


def small(name, **changes):
    """A model of the kind with every size small."""
    config = ARCHITECTURES[name]
    sizes = {"vocab_size": 40, "max_length": 12, "hidden_size": 16, "dropout": 0.0}
    sizes |= {"reduced_size": 4} if config.reduced_size else {}
    if config.kind in ("transformer", "efficient"):
        sizes |= {"feed_forward": 23, "num_layers": 2}
    if config.kind == "mamba":
        sizes |= {"inner_size": 20, "num_layers": 2}
    return dataclasses.replace(config, **sizes, **changes)


def classifier_of(config, labels=3):
    from tensorflow import keras

    from embbert_tf.baselines.classifier import BaselineClassifier

    keras.utils.set_random_seed(0)
    return BaselineClassifier(config, labels)


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name):
    weights = classifier_of(ARCHITECTURES[name]).backbone.weights
    assert sum(int(np.prod(weight.shape)) for weight in weights) == SIZES[name]
    assert SIZES.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("name", SIZES)
def test_padding_changes_no_answer(name):
    model = classifier_of(small(name))
    together = model(IDS).numpy()
    for row, ids in zip(together, IDS, strict=True):
        alone = model(ids[: np.count_nonzero(ids)][None]).numpy()[0]
        np.testing.assert_allclose(row, alone, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "embedder"])
def test_published_models_depend_on_padding(name):
    model = classifier_of(small(name, attend_to_padding=True))
    assert np.abs(model(IDS[:1]).numpy() - model(IDS[:1, :3]).numpy()).max() > 1e-3


@pytest.mark.parametrize("attend", [False, True])
@pytest.mark.parametrize("name", SIZES)
def test_agrees_with_pytorch(name, attend):
    torch = pytest.importorskip("torch", reason="PyTorch is a test-only dependency")
    from embbert_tf.storage import checkpoint_import
    from tests.support import published_baselines

    torch.manual_seed(1)
    config = small(name, attend_to_padding=attend)
    published = published_baselines.Classifier(config, 3).eval()
    state = {key: value.detach().numpy() for key, value in published.state_dict().items()}
    imported = checkpoint_import.build_model(state)
    # No tensor tells these two.
    assert dataclasses.replace(imported.config, dropout=0.0, attend_to_padding=attend) == config
    model = classifier_of(config)
    model.set_weights(imported.get_weights())
    with torch.no_grad():
        expected = published(torch.tensor(IDS.astype(np.int64))).numpy()
    np.testing.assert_allclose(model(IDS).numpy(), expected, atol=1e-5)


def test_gradient_of_the_scan():
    import tensorflow as tf

    from embbert_tf.baselines import scan

    rng = np.random.default_rng(0)
    shapes = ((2, 5, 3), (2, 5, 3), (2, 5, 4), (2, 5, 4), (3, 4))
    inputs = [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]
    inputs[-1] = -tf.abs(inputs[-1])
    weight = tf.constant(rng.random((2, 5, 3)), tf.float32)

    def unrolled(u, steps, state_in, state_out, decay):
        delta, state, rows = tf.nn.softplus(steps)[..., None], 0.0, []
        for t in range(5):
            state = tf.exp(delta[:, t] * decay) * state
            state += delta[:, t] * u[:, t, :, None] * state_in[:, t, None]
            rows.append(tf.reduce_sum(state * state_out[:, t, None], axis=-1))
        return tf.stack(rows, axis=1)

    results = []
    for compute in (unrolled, scan.selective_scan, tf.function(scan.selective_scan)):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = compute(*inputs)
            total = tf.reduce_sum(y * weight)
        results.append([y, *tape.gradient(total, inputs)])
    for expected, *others in zip(*results, strict=True):
        for other in others:
            np.testing.assert_allclose(other, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"kind": "rnn"}, "kind is one of transformer, efficient, mamba, embedder"),
        ({"num_heads": 0}, "num_heads of a transformer must be a whole number of at least 1"),
        ({"num_heads": 3}, "hidden_size 80 is no multiple of 3 heads"),
        ({"vocab_size": 2.5}, "vocab_size of a transformer must be a whole number"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_config_refuses(changes, message):
    fields = ARCHITECTURES["bert"].to_dict() | changes
    with pytest.raises(errors.OptionError, match=message):
        BaselineConfig.from_dict(fields)
    with pytest.raises(errors.OptionError, match="unknown configuration fields: taste"):
        BaselineConfig.from_dict({"kind": "mamba", "taste": 1})


@pytest.mark.parametrize(
    "name, drop, message",
    [
        ("bert", "model.bert_layers.layers.1.norm2.bias", "missing model.bert_layers.layers.1"),
        ("mamba", "model.mamba_layers.layers.0.mixer.A_log", "missing model.mamba_layers"),
        ("nano_bert", "model.embedder.tok_expander.weight", "misshapen|surplus"),
        ("bert_ea", "model.feed_forward.1.2.bias", "missing model.feed_forward.1.2.bias"),
        ("bert_ne_ea", "model.pre_norms.0.weight", "missing pre_norms.0"),
        ("embedder_conv", "classifier.weight", "missing classifier.weight"),
    ],
)
def test_damaged_checkpoint(name, drop, message):
    pytest.importorskip("torch", reason="PyTorch is a test-only dependency")
    from embbert_tf.storage import checkpoint_import
    from tests.support import published_baselines

    published = published_baselines.Classifier(small(name), 3)
    state = {key: value.detach().numpy() for key, value in published.state_dict().items()}
    del state[drop]
    with pytest.raises(errors.CheckpointError, match=message):
        checkpoint_import.build_model(state)


@pytest.mark.parametrize("name", EACH_KIND)
def test_a_pretrained_checkpoint_becomes_a_backbone_to_start_from(name, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is a test-only dependency")
    from embbert_tf.data import tokenizer as tokenizer_lib
    from embbert_tf.storage import backbone_folder, checkpoint_import
    from tests.support import published_baselines

    tokenizer = tokenizer_lib.train_tokenizer(["play some jazz", "play it again"] * 3, 40)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    published = published_baselines.Classifier(small(name), 3).eval()
    state = {key: value for key, value in published.state_dict().items() if key[0] == "m"}
    state |= {"mlm_classifier.weight": torch.zeros(40, 16), "nsp_classifier.bias": torch.zeros(2)}
    torch.save(state, tmp_path / "pretrained.pt")
    said = []
    model = checkpoint_import.import_checkpoint(
        tmp_path / "pretrained.pt",
        tmp_path / "tokenizer.json",
        tmp_path / "backbone",
        report=said.append,
    )
    assert any("served pre-training and are left out" in line for line in said)
    loaded = backbone_folder.load_backbone(tmp_path / "backbone")
    assert loaded.config.kind == small(name).kind
    with torch.no_grad():
        expected = published.model(torch.tensor(IDS[1:2].astype(np.int64))).numpy()
    for backbone in (model, loaded.model):
        np.testing.assert_allclose(backbone(IDS[1:2]).numpy(), expected, atol=1e-5)
