"""Imports PyTorch weights of EmbBERT as a run or backbone folder.

    python -m embbert_tf.import_checkpoint --input=model.safetensors --tokenizer=tokenizer.json \
        --output=build/imported

Reads safetensors, and PyTorch state dictionaries (`.pt`, `.bin`) with PyTorch's weights-only
loader: neither can run code from the file. With a `classifier` in the file the result is a run
folder, without one a backbone folder for `train --init`.

Names may have a prefix, as `torch.nn.DataParallel` (`module.`), `torch.compile` (`_orig_mod.`) and
training frameworks write it: it is taken off and printed. Heads of pre-training are left out, which
is printed too, and so are buffers of integers such as `position_ids`.
"""

import collections
import dataclasses
import pathlib
import re
import shutil
import sys
from collections.abc import Callable, Iterable

import numpy as np
import safetensors
from absl import app, flags

from embbert_tf import run as run_lib
from embbert_tf import tokenizer as tokenizer_lib
from embbert_tf.config import EmbBertConfig

# NumPy's name of each type; bfloat16 is the upper half of a float32.
_SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
# Before it, the weights-only loader can be made to run code (CVE-2025-32434).
_LEAST_TORCH = (2, 6)
# What PyTorch puts around a module, at any depth.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Integers that a model keeps and that are no weights.
_HARMLESS = {"position_ids", "token_type_ids", "num_batches_tracked", "n_averaged"}
_PRETRAINING_HEADS = ("mlm_classifier", "nsp_classifier")
_BACKBONE = re.compile(
    r"((?:.*\.)?)(?:embedder\.(?:token|tok_expander|position|pos_expander|sentence)"
    r"|norms\.\d+|attentions\.\d+\.(?:query|att_output|conv1d|contract))\.(?:weight|bias)"
)


class CheckpointError(ValueError):
    """A checkpoint that cannot be imported; the message says what is wrong."""


def read_safetensors(path, ignore: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Reads a safetensors file.

    Args:
        path: The file.
        ignore: Prefixes of tensors to leave out.

    Returns:
        Name to float32 array, without the buffers of integers that PyTorch modules keep.

    Raises:
        CheckpointError: if the file is damaged or holds anything else but floats.
        OSError: if it cannot be opened.
    """
    raw = pathlib.Path(path).read_bytes()
    try:
        entries = dict(safetensors.deserialize(raw))
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a safetensors file, damaged or cut short ({_first_line(error)})"
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


def read_pytorch(path, ignore: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dictionary without executing anything in it.

    Args:
        path: A file from `torch.save(model.state_dict(), path)`.
        ignore: Prefixes of tensors to leave out.

    Returns:
        Name to float32 array, without the buffers of integers that PyTorch modules keep.

    Raises:
        CheckpointError: if PyTorch is not installed or too old, or the file is not a plain
            dictionary of tensors.
    """
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{path}: reading a PyTorch file needs PyTorch (pip install 'torch>=2.6'); "
            "a .safetensors file needs nothing"
        ) from error
    if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < _LEAST_TORCH:
        raise CheckpointError(
            f"{path}: PyTorch {torch.__version__} can be made to run code from such a file "
            "(CVE-2025-32434); pip install 'torch>=2.6', or convert the file to safetensors"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Pickle, zip and PyTorch each raise their own.
        raise CheckpointError(
            f"{path}: not a PyTorch file of weights alone ({_first_line(error)}); "
            "save model.state_dict(), or convert it to safetensors"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise CheckpointError(f"{path}: not a dictionary of tensors; save model.state_dict()")
    types = {name: str(value.dtype).removeprefix("torch.") for name, value in state.items()}
    result = {}
    for name in _kept(types, ignore):
        if not state[name].is_floating_point():
            raise _not_float(path, name, types[name])
        try:
            result[name] = state[name].detach().float().numpy()
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            raise CheckpointError(
                f"{path}: tensor {name} has no values to read ({_first_line(error)})"
            ) from error
    return result


def _kept(types: dict[str, str], ignore: Iterable[str]) -> list[str]:
    """Returns the names to read, of {name: type}: neither ignored nor a harmless buffer.

    A prefix to ignore may be written as in the file or without what PyTorch put in front.
    """
    ignore = tuple(ignore)
    names = [name for name in types if not name.startswith(ignore)]
    known = known_names(names).names
    return [
        name
        for name in names
        if not known[name].startswith(ignore)
        and not (_is_integer(types[name]) and name.rpartition(".")[2] in _HARMLESS)
    ]


def _is_integer(dtype: str) -> bool:
    return re.fullmatch(r"[iu]\d+|u?int\d+|bool", dtype.lower()) is not None


def _not_float(path, name: str, dtype: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: tensor {name} is {dtype}; only floats can be imported (F64, F32, F16, BF16); if "
        f"it is no weight, leave it out with --ignore={name}"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_state(path, ignore: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Reads a checkpoint of either format, told apart by the ending.

    Args:
        path: `.safetensors`, or a PyTorch state dictionary.
        ignore: Prefixes of tensors to leave out.

    Returns:
        Name, as in the file, to float32 array.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        if str(path).endswith(".safetensors"):
            return read_safetensors(path, ignore)
        with open(path, "rb"):
            pass
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be opened ({error.strerror or error})") from error
    return read_pytorch(path, ignore)


@dataclasses.dataclass(frozen=True)
class KnownNames:
    """What the tensors of a file are called in the published checkpoints.

    Attributes:
        names: Name in the file to published name.
        prefix: What stands in front of the names in the file; empty if nothing does.
    """

    names: dict[str, str]
    prefix: str


def known_names(names: Iterable[str]) -> KnownNames:
    """Takes off what stands in front of the published names.

    Wrappers of PyTorch go wherever they stand. Of the rest, whatever precedes `embedder.…`,
    `norms.…` and `attentions.…` becomes `model.` beside a classifier, or nothing without one.

    Example:
    ```python
    known_names(["module.model.norms.0.weight"])
    # KnownNames({"module.model.norms.0.weight": "model.norms.0.weight"}, "module.")
    ```

    Args:
        names: Of all tensors in the file.

    Returns:
        The published names; names that are none stay, but for a prefix that all share.
    """
    bare = {
        name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in names
    }
    matches = {name: match for name in bare if (match := _BACKBONE.fullmatch(bare[name]))}
    if not matches:
        return KnownNames(bare, "")
    fronts = collections.Counter(match[1] for match in matches.values())
    front = fronts.most_common(1)[0][0]
    # The classifier lies beside the backbone or further out.
    steps = [0, *(at + 1 for at, letter in enumerate(front) if letter == ".")]
    heads = [
        front[:step]
        for step in reversed(steps)
        if any(name.startswith(f"{front[:step]}classifier.") for name in bare.values())
    ]
    within_model = front == "model." or front.endswith(".model.")
    outer = heads[0] if heads else front.removesuffix("model.") if within_model else front
    inner = "model." if within_model or (heads and front) else ""
    known = {}
    for name, short in bare.items():
        if short.startswith(front):
            known[name] = inner + short[len(front) :] if front != outer else short[len(front) :]
        else:
            known[name] = short.removeprefix(outer)
    # As the file has it, wrappers included.
    example = next(name for name, match in matches.items() if match[1] == front)
    target = known[example]
    prefix = example.removesuffix(target)
    if prefix == example:  # A wrapper within the name: say all that precedes its last part.
        prefix = example[: example.index(target.removeprefix("model.").split(".")[0])]
    return KnownNames(known, prefix)


def published_state(
    state: dict[str, np.ndarray], report: Callable[[str], None] = lambda line: None
) -> dict[str, np.ndarray]:
    """Returns the state under the published names, without heads of pre-training.

    Args:
        state: From `read_state`.
        report: Called with a sentence on a prefix that was taken off, and on heads left out.

    Raises:
        CheckpointError: if two tensors come to have one name.
    """
    known = known_names(state)
    twice = [name for name, count in collections.Counter(known.names.values()).items() if count > 1]
    if twice:
        both = [name for name in state if known.names[name] == twice[0]]
        raise CheckpointError(
            f"{' and '.join(both)} are both {twice[0]}; leave one out with --ignore={both[-1]}"
        )
    if known.prefix:
        report(f"names begin with '{known.prefix}', which is taken off")
    heads = [
        head
        for head in _PRETRAINING_HEADS
        if any(name.startswith(f"{head}.") for name in known.names.values())
    ]
    if heads:
        report(f"{' and '.join(heads)} served pre-training and are left out")
    return {
        known.names[name]: value
        for name, value in state.items()
        if known.names[name].split(".")[0] not in _PRETRAINING_HEADS
    }


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
    path,
    tokenizer_path,
    output,
    labels=None,
    task="classification",
    pair=False,
    ignore=(),
    report: Callable[[str], None] = lambda line: None,
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
        report: Called with each sentence on what was taken off or left out.

    Returns:
        The model.

    Raises:
        CheckpointError: if the file does not hold an EmbBERT.
        RunError: if the labels or the tokenizer do not fit.
        TokenizerError: if the tokenizer cannot be read.
    """
    state = read_state(path, ignore)
    try:
        model = build_model(published_state(state, report))
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
        "Prefixes of tensors to leave out, such as another task's head.",
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
            lambda line: print(f"{values.input}: {line}"),
        )
    except (CheckpointError, run_lib.RunError, tokenizer_lib.TokenizerError, OSError) as error:
        print(f"import_checkpoint: {error}", file=sys.stderr)
        sys.exit(1)
    kind = "classifier" if hasattr(model, "num_labels") else "backbone"
    print(f"{values.output}: {kind}, {model.count_params():,} parameters")


if __name__ == "__main__":
    define_flags()
    app.run(main)
