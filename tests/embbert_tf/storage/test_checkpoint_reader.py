"""Checkpoint files that are damaged, of other types, or made to run code."""

import json
import pathlib
import sys
import types

import numpy as np
import pytest
from safetensors.numpy import save_file

from embbert_tf import errors
from embbert_tf.storage import checkpoint_reader
from tests.support.published_checkpoints import S, V, published_state


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
        with pytest.raises(errors.FileError, match="cannot be opened"):
            checkpoint_reader.read_state(tmp_path / name)
