"""Imports PyTorch weights of EmbBERT as a run or backbone folder.

    python -m embbert_tf.import_checkpoint --input=model.safetensors --tokenizer=tokenizer.json \
        --output=build/imported

Reads safetensors without any further package, and PyTorch state dictionaries (`.pt`, `.bin`) with
PyTorch's weights-only loader: neither can run code from the file. With a `classifier` in the file
the result is a run folder, without one a backbone folder for `train --init`.
"""

import json
import math
import pathlib
import re
import shutil
import sys

import numpy as np
from absl import app, flags

from embbert_tf import run as run_lib
from embbert_tf import tokenizer as tokenizer_lib
from embbert_tf.config import EmbBertConfig

# Bytes an element takes, and its NumPy type; bfloat16 is the upper half of a float32.
_SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_MAX_HEADER = 100_000_000  # The format's own limit.


class CheckpointError(ValueError):
    """A checkpoint that cannot be imported; the message says what is wrong."""


def read_safetensors(path) -> dict[str, np.ndarray]:
    """Reads a safetensors file: 8 bytes of header length, a JSON header, raw tensors.

    Args:
        path: The file.

    Returns:
        Name to float32 array.

    Raises:
        CheckpointError: if the file is damaged or holds anything but floats.
    """
    raw = pathlib.Path(path).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or length > min(len(raw) - 8, _MAX_HEADER):
        raise CheckpointError(f"{path}: not a safetensors file, or cut short")
    data = memoryview(raw)[8 + length :]
    try:
        header = json.loads(raw[8 : 8 + length])
        entries = {
            name: (entry["dtype"], [int(size) for size in entry["shape"]], entry["data_offsets"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: the safetensors header is damaged ({error})") from error
    state = {}
    for name, (dtype, shape, offsets) in entries.items():
        if dtype not in _SAFETENSORS_TYPES:
            raise CheckpointError(f"{path}: tensor {name} is {dtype}; only floats can be imported")
        numpy_type = np.dtype(_SAFETENSORS_TYPES[dtype])
        begin, end = offsets
        size = math.prod(shape) * numpy_type.itemsize
        if min([begin, *shape]) < 0 or end - begin != size or end > len(data):
            raise CheckpointError(
                f"{path}: tensor {name} of shape {shape} does not fit its bytes {begin}…{end} "
                f"of {len(data)}; is the file complete?"
            )
        array = np.frombuffer(data[begin:end], numpy_type)
        if dtype == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        state[name] = array.astype(np.float32).reshape(shape)
    return state


def read_pytorch(path) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dictionary without executing anything in it.

    Args:
        path: A file from `torch.save(model.state_dict(), path)`.

    Returns:
        Name to float32 array.

    Raises:
        CheckpointError: if PyTorch is not installed, or the file is not a plain dictionary of
            tensors.
    """
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{path}: reading a PyTorch file needs PyTorch (pip install torch); "
            "a .safetensors file needs nothing"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Pickle, zip and PyTorch each raise their own.
        reason = str(error).split("\n")[0]
        raise CheckpointError(
            f"{path}: not a PyTorch file of weights alone ({reason}); "
            "save model.state_dict(), or convert it to safetensors"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise CheckpointError(f"{path}: not a dictionary of tensors; save model.state_dict()")
    return {name: value.detach().float().numpy() for name, value in state.items()}


def read_state(path) -> dict[str, np.ndarray]:
    """Reads a checkpoint of either format, told apart by the ending.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        if str(path).endswith(".safetensors"):
            return read_safetensors(path)
        with open(path, "rb"):
            pass
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be opened ({error.strerror or error})") from error
    return read_pytorch(path)


class _Source:
    """Hands out tensors by name, and keeps account of what was missing, misshapen and surplus."""

    def __init__(self, state, prefix):
        self._state = state
        self._prefix = prefix
        self._taken = set()
        self._problems = []

    def shape(self, name, rank):
        """Returns a shape to infer a size from.

        Raises:
            CheckpointError: if the tensor is missing or of another rank.
        """
        name = self._prefix + name
        if name not in self._state:
            raise CheckpointError(f"missing {name}")
        shape = self._state[name].shape
        if len(shape) != rank:
            raise CheckpointError(f"misshapen {name}: {list(shape)}, expected {rank} dimensions")
        return shape

    def take(self, name, shape, prefix=None):
        """Returns a tensor, or zeros if it is missing or misshapen (`finish` then raises)."""
        name = (self._prefix if prefix is None else prefix) + name
        self._taken.add(name)
        value = self._state.get(name)
        if value is None:
            self._problems.append(f"missing {name}")
        elif value.shape != shape:
            self._problems.append(f"misshapen {name}: {list(value.shape)}, expected {list(shape)}")
        elif not np.isfinite(value).all():
            self._problems.append(f"not finite {name}")
        else:
            return value
        return np.zeros(shape, np.float32)

    def finish(self):
        """Raises CheckpointError, naming every tensor that was not as it should be."""
        surplus = [f"surplus {name}" for name in self._state if name not in self._taken]
        if self._problems or surplus:
            raise CheckpointError("; ".join(self._problems + surplus))


def infer_config(state: dict[str, np.ndarray]) -> EmbBertConfig:
    """Reads the sizes of a model off its tensors.

    Raises:
        CheckpointError: if a tensor that tells a size is missing.
    """
    source = _Source(state, _prefix(state))
    vocab_size, reduced_size = source.shape("embedder.token.weight", 2)
    hidden_size, _ = source.shape("embedder.tok_expander.weight", 2)
    max_length, _ = source.shape("embedder.position.weight", 2)
    inner, _, kernel_size = source.shape("attentions.0.conv1d.weight", 3)
    layers = {int(index) for index in re.findall(r"(?:^|\s|\.)norms\.(\d+)\.", "\n".join(state))}
    if not layers:
        raise CheckpointError(f"missing {_prefix(state)}norms.0.weight")
    if hidden_size == 0 or inner % hidden_size:
        raise CheckpointError(
            f"misshapen attentions.0.conv1d.weight: {inner} channels are no multiple of "
            f"{hidden_size}"
        )
    return EmbBertConfig(
        vocab_size=vocab_size,
        max_length=max_length,
        hidden_size=hidden_size,
        reduced_size=reduced_size,
        num_layers=max(layers) + 1,
        kernel_size=kernel_size,
        expansion=inner // hidden_size,
    )


def _prefix(state):
    return "model." if any(name.startswith("model.") for name in state) else ""


def build_model(state: dict[str, np.ndarray]):
    """Builds the Keras model of a PyTorch state dictionary.

    Example:
    ```python
    model = build_model(read_state("model.safetensors"))
    ```

    Args:
        state: Names as in the published checkpoints: `embedder.…`, `norms.i.…`, `attentions.i.…`,
            under `model.` where there is a `classifier.…` beside.

    Returns:
        `EmbBertClassifier` if the state has a classifier, else `EmbBertBackbone`.

    Raises:
        CheckpointError: naming every tensor that is missing, surplus or misshapen.
    """
    # Keras takes seconds to load, and a damaged file should be refused before.
    from embbert_tf import backbone as backbone_lib
    from embbert_tf import classifier as classifier_lib

    config = infer_config(state)
    source = _Source(state, _prefix(state))
    v, s, d, r = config.vocab_size, config.max_length, config.hidden_size, config.reduced_size
    k, e = config.kernel_size, config.expansion

    classifier = None
    if any(name.startswith("classifier.") for name in state):
        weight = state.get("classifier.weight")
        labels = weight.shape[0] if weight is not None and weight.ndim == 2 else 1
        classifier = classifier_lib.EmbBertClassifier(config, num_labels=max(labels, 1))
        backbone = classifier.backbone
        classifier.head.kernel.assign(source.take("classifier.weight", (labels, d), "").T)
        classifier.head.bias.assign(source.take("classifier.bias", (labels,), ""))
    else:
        backbone = backbone_lib.EmbBertBackbone(config)

    # PyTorch keeps dense kernels as (out, in), Keras as (in, out); hence the transpositions.
    embedder = backbone.embedder
    embedder.token.assign(source.take("embedder.token.weight", (v, r)))
    embedder.token_expander.assign(source.take("embedder.tok_expander.weight", (d, r)).T)
    embedder.position.assign(source.take("embedder.position.weight", (s, r)))
    embedder.position_expander.assign(source.take("embedder.pos_expander.weight", (d, r)).T)
    embedder.segment.assign(source.take("embedder.sentence.weight", (3, d)))
    for index, block in enumerate(backbone.blocks):
        block.norm.gain.assign(source.take(f"norms.{index}.weight", (d,)))
        a = f"attentions.{index}"
        block.lambda_q1.assign(source.take(f"{a}.lambda_q1", (d,)))
        block.lambda_k1.assign(source.take(f"{a}.lambda_k1", (d,)))
        block.lambda_q2.assign(source.take(f"{a}.lambda_q2", (d,)))
        block.lambda_k2.assign(source.take(f"{a}.lambda_k2", (d,)))
        block.attention.query_kernel.assign(source.take(f"{a}.query.weight", (d, d)).T)
        block.attention.query_bias.assign(source.take(f"{a}.query.bias", (d,)))
        block.attention.output_kernel.assign(source.take(f"{a}.att_output.weight", (d, d)).T)
        block.attention.output_bias.assign(source.take(f"{a}.att_output.bias", (d,)))
        # (E·D, 1, K), output channel c·E+e from input channel c, to (K, D, E).
        taps = source.take(f"{a}.conv1d.weight", (e * d, 1, k))
        block.convolution.conv_kernel.assign(taps.reshape(d, e, k).transpose(2, 0, 1))
        block.convolution.conv_bias.assign(source.take(f"{a}.conv1d.bias", (e * d,)))
        block.convolution.contract_kernel.assign(source.take(f"{a}.contract.weight", (d, e * d)).T)
        block.convolution.contract_bias.assign(source.take(f"{a}.contract.bias", (d,)))
    source.finish()
    return classifier if classifier is not None else backbone


def import_checkpoint(
    path, tokenizer_path, output, labels=None, task="classification", pair=False, ignore=()
):
    """Imports a checkpoint file into a folder.

    Args:
        path: `.safetensors`, or a PyTorch state dictionary.
        tokenizer_path: `tokenizer.json` that the weights were trained with.
        output: Folder to write: a run folder, or without a classifier a backbone folder.
        labels: Names in the order of the logits; None for "0", "1", …
        task: "classification" or "regression".
        pair: True if the classifier reads pairs of texts.
        ignore: Prefixes of tensors to leave out.

    Returns:
        The model.

    Raises:
        CheckpointError: if the file does not hold an EmbBERT.
        RunError: if the labels or the tokenizer do not fit.
        TokenizerError: if the tokenizer cannot be read.
    """
    state = {
        name: value
        for name, value in read_state(path).items()
        if not any(name.startswith(prefix) for prefix in ignore)
    }
    try:
        model = build_model(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    from embbert_tf import backbone_run

    backbone_run.check_tokenizer(tokenizer_path, model.config)
    origin = {"imported": pathlib.Path(path).name}
    if not hasattr(model, "num_labels"):
        backbone_run.save_backbone(output, model, tokenizer_path, origin)
        return model

    if task == "regression":
        if model.num_labels != 1:
            raise run_lib.RunError(
                f"{path}: {model.num_labels} logits; a regression has one (--task=classification)"
            )
        labels = []
    elif labels is None:
        labels = [str(index) for index in range(model.num_labels)]
    elif len(labels) != model.num_labels:
        raise run_lib.RunError(f"{path}: {model.num_labels} logits, but {len(labels)} labels")
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    run_lib.write_atomic(
        output / run_lib.TOKENIZER, lambda temporary: shutil.copyfile(tokenizer_path, temporary)
    )
    if labels:
        run_lib.write_labels(output / run_lib.LABELS, labels)
    run_lib.write_json(
        output / run_lib.CONFIG,
        {"config": model.config.to_dict(), "task": task, "pair": pair, "origin": origin},
    )
    # Last, since a run folder that has it counts as finished.
    run_lib.write_atomic(output / run_lib.FP32, lambda temporary: model.save(temporary))
    return model


def define_flags(values=flags.FLAGS):
    """Defines the flags. Not on import: other commands have flags of the same names."""
    flags.DEFINE_string(
        "input", None, "PyTorch state dict (.pt, .bin) or .safetensors file.", flag_values=values
    )
    flags.DEFINE_string(
        "tokenizer", None, "tokenizer.json that the weights were trained with.", flag_values=values
    )
    flags.DEFINE_string("output", None, "Folder to write.", flag_values=values)
    flags.DEFINE_list(
        "labels",
        None,
        "Label names in the order of the logits; by default 0, 1, 2, …",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "task",
        "classification",
        ["classification", "regression"],
        "What the classifier was made for.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "pair", False, "True if the classifier reads pairs of texts.", flag_values=values
    )
    flags.DEFINE_list(
        "ignore",
        [],
        "Prefixes of tensors to leave out, such as a pre-training head's.",
        flag_values=values,
    )
    flags.mark_flags_as_required(["input", "tokenizer", "output"], flag_values=values)


def main(_, values=flags.FLAGS):
    """Command line."""
    try:
        model = import_checkpoint(
            values.input,
            values.tokenizer,
            values.output,
            values.labels,
            values.task,
            values.pair,
            values.ignore,
        )
    except (CheckpointError, run_lib.RunError, tokenizer_lib.TokenizerError, OSError) as error:
        print(f"import_checkpoint: {error}", file=sys.stderr)
        sys.exit(1)
    kind = "classifier" if hasattr(model, "num_labels") else "backbone"
    print(f"{values.output}: {kind}, {model.count_params():,} parameters")


if __name__ == "__main__":
    define_flags()
    app.run(main)
