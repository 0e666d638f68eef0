"""Checkpoints of the published layout against a model written from the formulas."""

import json
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from safetensors.numpy import save_file

from embbert_tf import errors, import_checkpoint
from embbert_tf.data.tokenizer import train_tokenizer
from embbert_tf.model.special_tokens import PAD, SEP
from embbert_tf.storage import backbone_folder, checkpoint_import, checkpoint_reader, run_folder

V, S, D, R, N, K, E, LABELS = 96, 24, 8, 4, 3, 5, 2, 3
EPSILON = np.finfo(np.float32).eps


def published_state(seed=0, labels=LABELS):
    """Random weights under the published names; PyTorch's shapes."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(0, 0.4, shape).astype(np.float32)

    prefix = "model." if labels else ""
    state = {
        "embedder.token.weight": draw(V, R),
        "embedder.tok_expander.weight": draw(D, R),
        "embedder.position.weight": draw(S, R),
        "embedder.pos_expander.weight": draw(D, R),
        "embedder.sentence.weight": draw(3, D),
    }
    state["embedder.token.weight"][PAD] = 0
    state["embedder.sentence.weight"][0] = 0
    for i in range(N):
        state[f"norms.{i}.weight"] = 1 + draw(D)
        for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
            state[f"attentions.{i}.{name}"] = draw(D)
        for name, shape in (
            ("query", (D, D)),
            ("att_output", (D, D)),
            ("conv1d", (E * D, 1, K)),
            ("contract", (D, E * D)),
        ):
            state[f"attentions.{i}.{name}.weight"] = draw(*shape)
            state[f"attentions.{i}.{name}.bias"] = draw(shape[0])
    state = {prefix + name: value for name, value in state.items()}
    if labels:
        state["classifier.weight"] = draw(labels, D)
        state["classifier.bias"] = draw(labels)
    return state


def numpy_logits(state, ids):
    """The formulas, literally, in float64; `ids` is one sequence, padding at its end."""
    w = {name.removeprefix("model."): value.astype(np.float64) for name, value in state.items()}
    n = len(ids)
    seen, segments = False, []
    for token in ids:
        seen = seen or token == SEP
        segments.append(0 if token == PAD else 2 if seen else 1)
    x = w["embedder.token.weight"][ids] @ w["embedder.tok_expander.weight"].T
    x = x + w["embedder.position.weight"][:n] @ w["embedder.pos_expander.weight"].T
    x = x + w["embedder.sentence.weight"][segments]
    real = np.asarray(ids) != PAD
    for i in range(N):
        a = f"attentions.{i}."
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * w[f"norms.{i}.weight"]
        scores = (x @ w[a + "query.weight"].T + w[a + "query.bias"]) @ x.T / np.sqrt(D)
        scores = np.exp(scores - scores[:, real].max(-1, keepdims=True)) * real
        attended = scores / scores.sum(-1, keepdims=True) @ x
        attended = attended @ w[a + "att_output.weight"].T + w[a + "att_output.bias"]
        y = np.empty((n, E * D))
        for t in range(n):
            for channel in range(E * D):
                y[t, channel] = w[a + "conv1d.bias"][channel] + sum(
                    w[a + "conv1d.weight"][channel, 0, K - 1 - back] * x[t - back, channel // E]
                    for back in range(min(K, t + 1))
                )
        y = y / (1 + np.exp(-y))
        y = y @ w[a + "contract.weight"].T + w[a + "contract.bias"]
        alpha = np.exp(w[a + "lambda_q1"] @ w[a + "lambda_k1"])
        beta = np.exp(w[a + "lambda_q2"] @ w[a + "lambda_k2"])
        x = alpha * attended - beta * y
    if "classifier.weight" not in w:
        return x
    return x[0] @ w["classifier.weight"].T + w["classifier.bias"]


SEQUENCES = [
    [2, 7, 9, 11, 7, 30, 95, 6],
    [2, 50],
    [2, 17, 4, 18, 19, 0, 0, 0],
    [2, *range(5, 5 + S - 1)],
]


@pytest.fixture(name="tokenizer")
def _tokenizer(tmp_path):
    tokenizer = train_tokenizer(["play some jazz", "play it again", "some more"] * 3, V)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def _import(tmp_path, state, tokenizer, **options):
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    output = tmp_path / "out"
    checkpoint_import.import_checkpoint(path, tokenizer, output, **options)
    return output


def test_classifier_logits(tmp_path, tokenizer):
    state = published_state()
    output = _import(tmp_path, state, tokenizer, labels=["a", "b", "c"], pair=True)
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
    backbone_folder.load_backbone(_import(tmp_path, state, tokenizer, ignore=["cls."]))


def test_integers_that_are_no_weights(tmp_path):
    """Known buffers are passed over; others are refused, but for what is ignored."""
    state = published_state()
    path = tmp_path / "model.safetensors"
    names = set(state)
    state["model.embedder.position_ids"] = np.arange(S)[np.newaxis]
    state["n_averaged"] = np.array(3)
    save_file(state, path)
    assert set(checkpoint_reader.read_state(path)) == names
    state["model.embedder.token.lookup"] = np.arange(V)
    save_file({f"module.{name}": value for name, value in state.items()}, path)
    message = r"module\.model\.embedder\.token\.lookup is I64; .* leave it out with --ignore=module"
    with pytest.raises(errors.CheckpointError, match=message):
        checkpoint_reader.read_state(path)
    for ignored in ("module.model.embedder.token.lookup", "model.embedder.token.lookup"):
        kept = checkpoint_reader.read_state(path, [ignored])
        assert set(kept) == {f"module.{name}" for name in names}


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


@pytest.mark.parametrize(
    ("names", "known", "prefix"),
    [
        (["encoder.norms.0.weight", "classifier.bias"], ["model.norms.0.weight", ""], "encoder."),
        (["a.b.norms.0.weight", "a.classifier.bias"], ["model.norms.0.weight", ""], "a.b."),
        (["norms.0.weight", "classifier.bias"], ["norms.0.weight", ""], ""),
        (["model._orig_mod.norms.0.weight", "classifier.bias"], ["model.norms.0.weight", ""], None),
        (["norms.0._orig_mod.weight"], ["norms.0.weight"], ""),
        (["other.weight"], ["other.weight"], ""),
        ([], [], ""),
    ],
)
def test_known_names(names, known, prefix):
    known = [name or "classifier.bias" for name in known]
    found = import_checkpoint.known_names(names)
    assert list(found.names.values()) == known
    assert found.prefix == (prefix if prefix is not None else "model._orig_mod.")


def test_two_copies_of_a_tensor_are_refused(tmp_path, tokenizer):
    state = published_state()
    state["module.classifier.bias"] = state["classifier.bias"]
    with pytest.raises(errors.CheckpointError, match=r"both classifier\.bias; leave"):
        _import(tmp_path, state, tokenizer)
    _import(tmp_path, state, tokenizer, ignore=["module."])


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
        _import(tmp_path, published_state(), tokenizer, labels=["a", "b"])
    small = published_state()
    small["model.embedder.token.weight"] = small["model.embedder.token.weight"][:9]
    with pytest.raises(errors.RunError, match="token table of 9 rows"):
        _import(tmp_path, small, tokenizer)


_DAMAGED = "not a safetensors file, damaged or cut short"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"", _DAMAGED),
        (lambda raw: raw[:5], _DAMAGED),
        (lambda raw: raw[:-40], _DAMAGED),
        (lambda raw: raw[:8] + b"x" + raw[9:], _DAMAGED),
        (lambda raw: raw[:9] + b"\xff" + raw[10:], _DAMAGED),
        (lambda raw: b"\xff" * 8 + raw[8:], _DAMAGED),
        (lambda raw: raw.replace(b'"data_offsets":[0,', b'"data_offsets":[7,', 1), _DAMAGED),
        (lambda raw: raw.replace(b'"F32"', b'"X32"', 1), _DAMAGED),
        (lambda raw: raw.replace(b'"F32"', b'"I32"', 1), r"tensor \S+ is I32; only floats"),
    ],
)
def test_damaged_safetensors(tmp_path, damage, message):
    path = tmp_path / "model.safetensors"
    save_file(published_state(), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(errors.CheckpointError, match=message) as error:
        checkpoint_reader.read_state(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]},
        {"dtype": 32, "shape": [1], "data_offsets": [0, 4]},
        {"shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]},
        [],
        None,
    ],
)
def test_a_header_that_makes_no_sense(tmp_path, entry):
    header = json.dumps({"x": entry}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    with pytest.raises(errors.CheckpointError, match=_DAMAGED) as error:
        checkpoint_reader.read_state(path)
    assert "\n" not in str(error.value)


def test_half_precision(tmp_path):
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "half": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
            "brain": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [4, 8]},
        }
    ).encode()
    values = np.array([1.5, -2], np.float32)
    raw = (
        values.astype(np.float16).tobytes() + (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    )
    path = tmp_path / "half.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw)
    state = checkpoint_reader.read_safetensors(path)
    np.testing.assert_array_equal(state["half"], values)
    np.testing.assert_array_equal(state["brain"], values[np.newaxis])


def test_command_line_reports_in_one_line(tmp_path, tokenizer):
    path = tmp_path / "model.safetensors"
    state = published_state()
    del state["classifier.bias"]
    save_file(state, path)
    command = [sys.executable, "-m", "embbert_tf.import_checkpoint", f"--input={path}"]
    command += [f"--tokenizer={tokenizer}", f"--output={tmp_path / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "missing classifier.bias" in done.stderr and "Traceback" not in done.stderr


def test_command_line_says_the_prefix(tmp_path, tokenizer):
    path = tmp_path / "model.safetensors"
    save_file({f"module.{name}": value for name, value in published_state().items()}, path)
    command = [sys.executable, "-m", "embbert_tf.import_checkpoint", f"--input={path}"]
    command += [f"--tokenizer={tokenizer}", f"--output={tmp_path / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{path}: names begin with 'module.', which is taken off\n" in done.stdout


def test_an_old_pytorch_is_refused(tmp_path, monkeypatch):
    """Its weights-only loader can be made to run code; PyTorch itself is not needed to see it."""
    path = tmp_path / "model.pt"
    path.write_bytes(b"anything")
    for version, refused in (("2.5.1+cu124", True), ("1.13.0", True), ("2.10.0", False)):
        fake = types.ModuleType("torch")
        fake.__version__ = version
        fake.load = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("was read\nand more"))
        monkeypatch.setitem(sys.modules, "torch", fake)
        message = "CVE-2025-32434" if refused else r"weights alone \(was read\)"
        with pytest.raises(errors.CheckpointError, match=message):
            checkpoint_reader.read_state(path)


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


def test_pytorch_file_that_runs_code_is_refused(tmp_path):
    torch = pytest.importorskip(
        "torch", reason="PyTorch is a test-only dependency; pip install torch"
    )
    trap = tmp_path / "executed"

    class Trap:
        def __reduce__(self):
            return pathlib.Path.touch, (trap,)

    path = tmp_path / "model.pt"
    torch.save({"model.norms.0.weight": Trap()}, path)
    with pytest.raises(errors.CheckpointError, match="weights alone"):
        checkpoint_reader.read_state(path)
    assert not trap.exists()


def test_missing_file(tmp_path):
    for name in ("none.safetensors", "none.pt"):
        with pytest.raises(errors.CheckpointError, match="cannot be opened"):
            checkpoint_reader.read_state(tmp_path / name)
