"""Brings a published checkpoint into a Keras model, one explicit line a tensor."""

import pathlib
import re
import shutil
from collections.abc import Callable

import numpy as np

from embbert_tf import errors
from embbert_tf import import_checkpoint as import_checkpoint_lib
from embbert_tf.data import files
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.storage import checkpoint_reader, run_folder


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
            raise errors.CheckpointError(f"missing {name}")
        shape = self._state[name].shape
        if len(shape) != rank:
            raise errors.CheckpointError(
                f"misshapen {name}: {list(shape)}, expected {rank} dimensions"
            )
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
            raise errors.CheckpointError("; ".join(self._problems + surplus))


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
        raise errors.CheckpointError(f"missing {_prefix(state)}norms.0.weight")
    if hidden_size == 0 or inner % hidden_size:
        raise errors.CheckpointError(
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
    from embbert_tf.model import backbone as backbone_lib
    from embbert_tf.model import classifier as classifier_lib

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
    state = checkpoint_reader.read_state(path, ignore)
    try:
        model = build_model(import_checkpoint_lib.published_state(state, report))
    except errors.CheckpointError as error:
        raise errors.CheckpointError(f"{path}: {error}") from error
    from embbert_tf.storage import backbone_folder

    backbone_folder.check_tokenizer(tokenizer_path, model.config)
    origin = {"imported": pathlib.Path(path).name}
    if not hasattr(model, "num_labels"):
        backbone_folder.save_backbone(output, model, tokenizer_path, origin)
        return model

    if task == "regression":
        if model.num_labels != 1:
            raise errors.RunError(
                f"{path}: {model.num_labels} logits; a regression has one (--task=classification)"
            )
        labels = []
    elif labels is None:
        labels = [str(index) for index in range(model.num_labels)]
    elif len(labels) != model.num_labels:
        raise errors.RunError(f"{path}: {model.num_labels} logits, but {len(labels)} labels")
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    files.write_atomic(
        output / run_folder.TOKENIZER, lambda temporary: shutil.copyfile(tokenizer_path, temporary)
    )
    if labels:
        run_folder.write_labels(output / run_folder.LABELS, labels)
    files.write_json(
        output / run_folder.CONFIG,
        {"config": model.config.to_dict(), "task": task, "pair": pair, "origin": origin},
    )
    # Last, since a run folder that has it counts as finished.
    files.write_atomic(output / run_folder.FP32, lambda temporary: model.save(temporary))
    return model
