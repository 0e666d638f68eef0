"""Reads published checkpoints, safetensors or PyTorch, into NumPy arrays."""

import re
from collections.abc import Iterable

import numpy as np
import safetensors

from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.storage import checkpoint_names

# NumPy's name of each type; bfloat16 is the upper half of a float32.
_SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
# Before it, the weights-only loader can be made to run code (CVE-2025-32434).
_LEAST_TORCH = (2, 6)
# Integers that a model keeps and that are no weights.
_HARMLESS = {"position_ids", "token_type_ids", "num_batches_tracked", "n_averaged"}


def read_state(path: files.PathLike, ignore: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Reads a checkpoint of either format, told apart by the ending.

    Args:
        path: `.safetensors`, or a PyTorch state dictionary.
        ignore: Prefixes of tensors to leave out, as in the file or without what PyTorch put in
            front.

    Returns:
        Name, as in the file, to float32 array, without the buffers of integers that PyTorch modules
        keep.

    Raises:
        CheckpointError: It is damaged, or holds anything else but floats.
        FileError: It cannot be opened.
    """
    if str(path).endswith(".safetensors"):
        return read_safetensors(path, ignore)
    return read_pytorch(path, ignore)


def read_safetensors(path: files.PathLike, ignore: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Reads a safetensors file.

    Args, result and errors are those of `read_state`.
    """
    raw = files.read_bytes(path)
    try:
        entries = dict(safetensors.deserialize(raw))
    except safetensors.SafetensorError as error:
        raise errors.CheckpointError(
            f"{path}: not a safetensors file, damaged or cut short ({errors.first_line(error)})"
        ) from error
    kept = _kept({name: entry["dtype"] for name, entry in entries.items()}, ignore)
    state = {}
    for name in kept:
        dtype, shape = entries[name]["dtype"], entries[name]["shape"]
        if dtype not in _SAFETENSORS_TYPES:
            raise _not_float(path, name, dtype)
        array = np.frombuffer(entries[name]["data"], _SAFETENSORS_TYPES[dtype])
        if dtype == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        state[name] = array.astype(np.float32).reshape(shape)
    return state


def read_pytorch(path: files.PathLike, ignore: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dictionary without executing anything in it.

    Args, result and errors are those of `read_state`; the file is one of
    `torch.save(model.state_dict(), path)`, and PyTorch is installed, 2.6 or later.
    """
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise files.unreadable(path, error) from error
    try:
        import torch
    except ImportError as error:
        raise errors.CheckpointError(
            f"{path}: reading a PyTorch file needs PyTorch (pip install 'torch>=2.6'); "
            "a .safetensors file needs nothing"
        ) from error
    if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < _LEAST_TORCH:
        raise errors.CheckpointError(
            f"{path}: PyTorch {torch.__version__} can be made to run code from such a file "
            "(CVE-2025-32434); pip install 'torch>=2.6', or convert the file to safetensors"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Pickle, zip and PyTorch each raise their own.
        raise errors.CheckpointError(
            f"{path}: not a PyTorch file of weights alone ({errors.first_line(error)}); "
            "save model.state_dict(), or convert it to safetensors"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise errors.CheckpointError(
            f"{path}: not a dictionary of tensors; save model.state_dict()"
        )
    types = {name: str(value.dtype).removeprefix("torch.") for name, value in state.items()}
    result = {}
    for name in _kept(types, ignore):
        if not state[name].is_floating_point():
            raise _not_float(path, name, types[name])
        try:
            result[name] = state[name].detach().float().numpy()
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            raise errors.CheckpointError(
                f"{path}: tensor {name} has no values to read ({errors.first_line(error)})"
            ) from error
    return result


def _kept(types: dict[str, str], ignore: Iterable[str]) -> list[str]:
    """Returns the names to read, of {name: type}: neither ignored nor a harmless buffer.

    A prefix to ignore may be written as in the file or without what PyTorch put in front.
    """
    ignore = tuple(ignore)
    names = [name for name in types if not name.startswith(ignore)]
    known = checkpoint_names.known_names(names).names
    return [
        name
        for name in names
        if not known[name].startswith(ignore)
        and not (_is_integer(types[name]) and name.rpartition(".")[2] in _HARMLESS)
    ]


def _is_integer(dtype: str) -> bool:
    return re.fullmatch(r"[iu]\d+|u?int\d+|bool", dtype.lower()) is not None


def _not_float(path: files.PathLike, name: str, dtype: str) -> errors.CheckpointError:
    return errors.CheckpointError(
        f"{path}: tensor {name} is {dtype}; only floats can be imported (F64, F32, F16, BF16); if "
        f"it is no weight, leave it out with --ignore={name}"
    )
