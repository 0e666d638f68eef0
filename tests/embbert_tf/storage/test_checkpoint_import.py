"""Checkpoints of the published layout against a model written from the formulas."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from embbert_tf import errors
from embbert_tf.data.tokenizer import train_tokenizer
from embbert_tf.model.special_tokens import PAD, SEP
from embbert_tf.storage import backbone_folder, checkpoint_import, run_folder
from tests.support.published_checkpoints import (
    EPSILON,
    LABELS,
    SEQUENCES,
    D,
    E,
    K,
    N,
    R,
    S,
    V,
    numpy_logits,
    published_state,
)
from tests.support.runs import run_command


@pytest.fixture(name="tokenizer")
def _tokenizer(tmp_path):
    tokenizer = train_tokenizer(["play some jazz", "play it again", "some more"] * 3, V)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def _import(tmp_path, state, tokenizer, report=lambda line: None, **options):
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    output = tmp_path / "out"
    options = checkpoint_import.ImportOptions(**options)
    checkpoint_import.import_checkpoint(path, tokenizer, output, options, report)
    return output


def test_classifier_logits(tmp_path, tokenizer):
    state = published_state()
    output = _import(
        tmp_path,
        state,
        tokenizer,
        labels=(
            "a",
            "b",
            "c",
        ),
        pair=True,
    )
    run = run_folder.load_run(output)
    assert (run.labels, run.pair, run.task) == (["a", "b", "c"], True, "classification")
    assert run.config.expansion == E and run.config.kernel_size == K
    for ids in SEQUENCES:
        expected = numpy_logits(state, ids)
        assert np.abs(expected).max() > 0.1
        got = run.model(np.array([ids], np.int32)).numpy()[0]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_backbone_alone(tmp_path, tokenizer):
    state = published_state(labels=0)
    loaded = backbone_folder.load_backbone(_import(tmp_path, state, tokenizer))
    expected = numpy_logits(state, SEQUENCES[0])
    got = loaded.model(np.array([SEQUENCES[0]], np.int32)).numpy()[0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert loaded.tokenizer.get_vocab_size() <= V


def test_run_folder_serves_as_backbone(tmp_path, tokenizer):
    state = published_state()
    loaded = backbone_folder.load_backbone(_import(tmp_path, state, tokenizer))
    np.testing.assert_array_equal(loaded.model.embedder.token, state["model.embedder.token.weight"])


def test_regression(tmp_path, tokenizer):
    run = run_folder.load_run(
        _import(tmp_path, published_state(labels=1), tokenizer, task="regression", pair=True)
    )
    assert run.task == "regression" and run.labels == [] and run.model.num_labels == 1


def test_names_every_wrong_tensor(tmp_path, tokenizer):
    state = published_state()
    del state["model.attentions.1.query.bias"]
    state["model.norms.2.weight"] = np.ones(D + 1, np.float32)
    state["mlm_head.weight"] = np.ones((V, D), np.float32)
    state["model.attentions.0.contract.bias"][3] = np.nan
    with pytest.raises(errors.CheckpointError) as error:
        _import(tmp_path, state, tokenizer)
    message = str(error.value)
    assert "missing model.attentions.1.query.bias" in message
    assert f"misshapen model.norms.2.weight: [{D + 1}], expected [{D}]" in message
    assert "not finite model.attentions.0.contract.bias" in message
    assert "surplus mlm_head.weight" in message
    assert message.count(";") == 3
    assert not (tmp_path / "out").exists()


def test_missing_layer_and_missing_embedder(tmp_path, tokenizer):
    state = published_state()
    gap = {name: value for name, value in state.items() if not name.startswith("model.norms.1")}
    with pytest.raises(errors.CheckpointError, match=r"missing model\.norms\.1\.weight"):
        _import(tmp_path, gap, tokenizer)
    del state["model.embedder.token.weight"]
    with pytest.raises(errors.CheckpointError, match=r"missing model\.embedder\.token"):
        _import(tmp_path, state, tokenizer)


def test_ignored_head(tmp_path, tokenizer):
    state = published_state(labels=0)
    state["cls.bias"] = np.zeros(V, np.float32)
    backbone_folder.load_backbone(_import(tmp_path, state, tokenizer, ignore=("cls.",)))


@pytest.mark.slow
@pytest.mark.parametrize("labels", [0, LABELS], ids=["backbone", "classifier"])
@pytest.mark.parametrize(
    ("place", "prefix"),
    [
        (lambda name: f"module.{name}", "module."),
        (lambda name: f"_orig_mod.module.{name}", "_orig_mod.module."),
        (lambda name: f"net.model.{name}", "net.model."),
        (lambda name: f"model.{name}", "model."),
    ],
    ids=["DataParallel", "compile", "any", "Lightning"],
)
def test_a_prefix_is_taken_off_and_said(tmp_path, tokenizer, place, prefix, labels):
    state, said = published_state(labels=labels), []
    placed = {place(name): value for name, value in state.items()}
    output = _import(tmp_path, placed, tokenizer, report=said.append)
    if prefix.endswith("model.") and not labels:
        prefix = prefix.removesuffix("model.")  # A backbone may lie under that name anyway.
    assert said == ([f"names begin with '{prefix}', which is taken off"] if prefix else [])
    model = backbone_folder.load_backbone(output).model
    plain = {name: value for name, value in state.items() if "classifier" not in name}
    expected = numpy_logits(plain, SEQUENCES[0])[0]  # A classifier's backbone has no other row.
    got = model(np.array([SEQUENCES[0]], np.int32)).numpy()[0, 0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    if labels:
        head = run_folder.load_run(output).model.head
        np.testing.assert_array_equal(head.kernel, state["classifier.weight"].T)


def test_two_copies_of_a_tensor_are_refused(tmp_path, tokenizer):
    state = published_state()
    state["module.classifier.bias"] = state["classifier.bias"]
    with pytest.raises(errors.CheckpointError, match=r"both classifier\.bias; leave"):
        _import(tmp_path, state, tokenizer)
    _import(tmp_path, state, tokenizer, ignore=("module.",))


def test_a_pretraining_checkpoint_gives_its_backbone(tmp_path, tokenizer):
    state, said = published_state(labels=0), []
    plain = dict(state)
    state = {f"model.{name}": value for name, value in state.items()}
    for head, rows in (("mlm_classifier", V), ("nsp_classifier", 2)):
        state[f"{head}.weight"] = np.ones((rows, D), np.float32)
        state[f"{head}.bias"] = np.ones(rows, np.float32)
    output = _import(tmp_path, state, tokenizer, report=said.append)
    assert said == ["mlm_classifier and nsp_classifier served pre-training and are left out"]
    got = backbone_folder.load_backbone(output).model(np.array([SEQUENCES[0]], np.int32)).numpy()[0]
    expected = numpy_logits(plain, SEQUENCES[0])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_labels_and_tokenizer_must_fit(tmp_path, tokenizer):
    with pytest.raises(errors.RunError, match="3 logits, but 2 labels"):
        _import(
            tmp_path,
            published_state(),
            tokenizer,
            labels=(
                "a",
                "b",
            ),
        )
    small = published_state()
    small["model.embedder.token.weight"] = small["model.embedder.token.weight"][:9]
    with pytest.raises(errors.RunError, match="token table of 9 rows"):
        _import(tmp_path, small, tokenizer)


def _command(path, tokenizer, output, *more):
    return run_command(
        "embbert_tf.import_checkpoint", f"--input={path}", f"--tokenizer={tokenizer}",
        f"--output={output}", *more,
    )  # fmt: skip


def test_command_reports_in_one_line(tmp_path, tokenizer):
    path = tmp_path / "model.safetensors"
    state = published_state()
    del state["classifier.bias"]
    save_file(state, path)
    done = _command(path, tokenizer, tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"import_checkpoint: {path}: missing classifier.bias\n"


def test_command_says_the_prefix_and_takes_labels(tmp_path, tokenizer):
    path, output = tmp_path / "model.safetensors", tmp_path / "out"
    save_file({f"module.{name}": value for name, value in published_state().items()}, path)
    done = _command(path, tokenizer, output, "--labels=x,y,z", "--pair")
    assert done.returncode == 0, done.stderr
    prefix, kind = done.stdout.splitlines()
    assert prefix == f"{path}: names begin with 'module.', which is taken off"
    assert kind.startswith(f"{output}: classifier, ")
    run = run_folder.load_run(output)
    assert (run.labels, run.pair) == (["x", "y", "z"], True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--labels=x,y"], "3 logits, but 2 labels"),
        (["--labels=x,y,x"], "'x' stands there twice"),
        (["--labels=x,,z"], "one is empty"),
        (["--task=regression"], "3 logits; a regression has one"),
        (["--task=regression", "--labels=x,y,z"], "a regression has no labels"),
        (["--tokenizer=none.json"], "none.json"),
        (["--input=none.safetensors"], "none.safetensors: cannot be opened"),
    ],
)
def test_bad_options_write_nothing(tmp_path, tokenizer, more, message):
    path, output = tmp_path / "model.safetensors", tmp_path / "out"
    save_file(published_state(), path)
    done = _command(path, tokenizer, output, *more)
    assert done.returncode == 1
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not output.exists()


def test_a_single_logit_is_no_classification(tmp_path, tokenizer):
    with pytest.raises(errors.RunError, match="--task=regression"):
        _import(tmp_path, published_state(labels=1), tokenizer)


def test_another_trainings_folder_is_left_alone(tmp_path, tokenizer):
    output = _import(tmp_path, published_state(), tokenizer)
    _import(tmp_path, published_state(labels=0), tokenizer)  # In place of an import before.
    assert backbone_folder.load_backbone(output).config.hidden_size == D
    assert not (output / run_folder.FP32).exists() and not (output / run_folder.LABELS).exists()
    for name, content in ((run_folder.RANGES, "{}"), (run_folder.CONFIG, '{"task": "backbone"}')):
        before = (output / name).read_text() if (output / name).exists() else None
        (output / name).write_text(content)
        with pytest.raises(errors.RunError, match=f"holds {name}, which is not of an import"):
            _import(tmp_path, published_state(), tokenizer)
        assert (output / name).read_text() == content
        (output / name).write_text(before) if before else (output / name).unlink()


def test_sizes_that_none_can_have(tmp_path, tokenizer):
    empty = published_state()
    empty["model.embedder.token.weight"] = np.zeros((0, R), np.float32)
    with pytest.raises(errors.CheckpointError, match="vocab_size"):
        _import(tmp_path, empty, tokenizer)
    endless = published_state()
    endless["model.norms.1000000000.weight"] = np.ones(D, np.float32)
    with pytest.raises(errors.CheckpointError, match=rf"missing model\.norms\.{N}\.weight"):
        _import(tmp_path, endless, tokenizer)


def test_pytorch_model(tmp_path, tokenizer):
    torch = pytest.importorskip(
        "torch", reason="PyTorch is a test-only dependency; pip install torch"
    )
    functional = torch.nn.functional

    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
                self.register_parameter(name, torch.nn.Parameter(torch.randn(D) * 0.3))
            self.query = torch.nn.Linear(D, D)
            self.att_output = torch.nn.Linear(D, D)
            self.conv1d = torch.nn.Conv1d(D, E * D, K, groups=D)
            self.contract = torch.nn.Linear(E * D, D)

        def forward(self, x, real):
            scores = self.query(x) @ x.transpose(1, 2) / D**0.5
            scores = scores.masked_fill(~real[:, None], float("-inf"))
            attended = self.att_output(scores.softmax(-1) @ x)
            y = functional.pad(x.transpose(1, 2), (K - 1, 0))
            y = self.contract(functional.silu(self.conv1d(y)).transpose(1, 2))
            first = torch.exp(self.lambda_q1 @ self.lambda_k1)
            return first * attended - torch.exp(self.lambda_q2 @ self.lambda_k2) * y

    class Embedder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.token = torch.nn.Embedding(V, R, padding_idx=0)
            self.tok_expander = torch.nn.Linear(R, D, bias=False)
            self.position = torch.nn.Embedding(S, R)
            self.pos_expander = torch.nn.Linear(R, D, bias=False)
            self.sentence = torch.nn.Embedding(3, D, padding_idx=0)

        def forward(self, ids):
            seen = (ids == SEP).cumsum(1).clamp(max=1)
            segments = torch.where(ids == PAD, 0, 1 + seen)
            position = self.position(torch.arange(ids.shape[1]))
            return (
                self.tok_expander(self.token(ids))
                + self.pos_expander(position)
                + self.sentence(segments)
            )

    class Norm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.rand(D) + 0.5)

        def forward(self, x):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * self.weight

    class Backbone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedder = Embedder()
            self.norms = torch.nn.ModuleList(Norm() for _ in range(N))
            self.attentions = torch.nn.ModuleList(Attention() for _ in range(N))

        def forward(self, ids):
            x = self.embedder(ids)
            for norm, attention in zip(self.norms, self.attentions, strict=True):
                x = attention(norm(x), ids != PAD)
            return x

    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Backbone()
            self.classifier = torch.nn.Linear(D, LABELS)

        def forward(self, ids):
            return self.classifier(self.model(ids)[:, 0])

    torch.manual_seed(0)
    model = Classifier().eval()
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    output = tmp_path / "run"
    imported = checkpoint_import.import_checkpoint(path, tokenizer, output)
    for ids in SEQUENCES:
        expected = model(torch.tensor([ids])).detach().numpy()
        got = imported(np.array([ids], np.int32)).numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
