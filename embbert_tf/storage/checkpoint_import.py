"""Brings a published checkpoint into a Keras model, one explicit line a tensor."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.model import option
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.storage import (
    backbone_folder,
    baseline_import,
    checkpoint_names,
    checkpoint_reader,
    checkpoint_source,
    run_folder,
)


@option.documented
@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """What a checkpoint does not say of itself."""

    labels: tuple[str, ...] = option.option(
        (), "Names of the labels in the order of the logits; if empty 0, 1, 2, …"
    )
    task: str = option.option(
        "classification",
        "What the classifier was made for.",
        choices=["classification", "regression"],
    )
    pair: bool = option.option(False, "Whether the classifier reads pairs of texts.")
    ignore: tuple[str, ...] = option.option(
        (), "Prefixes of tensors to leave out, such as another task's head."
    )

    def __post_init__(self):
        option.check(self)
        for label in self.labels:
            if "\n" in label or "\r" in label:
                raise errors.OptionError(
                    f"label {label!r} contains a line break, which labels.txt cannot hold"
                )
            if not label.strip():
                raise errors.OptionError("labels: one is empty; name each")
            if self.labels.count(label) > 1:
                raise errors.OptionError(f"labels: '{label}' stands there twice")
        if self.labels and self.task == "regression":
            raise errors.OptionError("a regression has no labels; leave them out")


def infer_config(state: Mapping[str, np.ndarray]) -> EmbBertConfig:
    """Reads the sizes of a model off its tensors.

    Args:
        state: As for `build_model`.

    Raises:
        CheckpointError: A tensor that tells a size is missing, or tells none that can be.
    """
    source = checkpoint_source.Source(state, checkpoint_source.prefix(state))
    vocab_size, reduced_size = source.shape("embedder.token.weight", 2)
    hidden_size, _ = source.shape("embedder.tok_expander.weight", 2)
    max_length, _ = source.shape("embedder.position.weight", 2)
    inner, _, kernel_size = source.shape("attentions.0.conv1d.weight", 3)
    layers = {int(index) for index in re.findall(r"(?:^|\s|\.)norms\.(\d+)\.", "\n".join(state))}
    # The least number that is no layer's: above a gap there would be layers without end to build.
    num_layers = next(index for index in range(len(layers) + 1) if index not in layers)
    if not layers or num_layers < len(layers):
        raise errors.CheckpointError(
            f"missing {checkpoint_source.prefix(state)}norms.{num_layers}.weight"
        )
    if hidden_size == 0 or inner % hidden_size:
        raise errors.CheckpointError(
            f"misshapen attentions.0.conv1d.weight: {inner} channels are no multiple of "
            f"{hidden_size}"
        )
    try:
        return EmbBertConfig(
            vocab_size=vocab_size,
            max_length=max_length,
            hidden_size=hidden_size,
            reduced_size=reduced_size,
            num_layers=num_layers,
            kernel_size=kernel_size,
            expansion=inner // hidden_size,
        )
    except errors.OptionError as error:
        raise errors.CheckpointError(f"a tensor has no values: {error}") from error


def build_model(state: Mapping[str, np.ndarray]) -> Any:
    """Builds the Keras model of a PyTorch state dictionary.

    Example:
    ```text
    model = build_model(checkpoint_reader.read_state("model.safetensors"))
    ```

    Args:
        state: Names as in the published checkpoints: `embedder.…`, `norms.i.…`, `attentions.i.…`,
            under `model.` where there is a `classifier.…` beside.

    Returns:
        `EmbBertClassifier` if the state has a classifier, else `EmbBertBackbone`; of the models
        that EmbBERT is compared with `BaselineClassifier` or `BaselineBackbone`.

    Raises:
        CheckpointError: Tensors are missing, surplus or misshapen; the message names them all.
    """
    kind = baseline_import.kind_of(state)
    if kind:
        return baseline_import.build_model(state, kind)
    config = infer_config(state)
    # Keras takes seconds to load, and a damaged file should be refused before.
    from embbert_tf.model import backbone as backbone_lib
    from embbert_tf.model import classifier as classifier_lib

    source = checkpoint_source.Source(state, checkpoint_source.prefix(state))
    model: Any
    if checkpoint_source.has_classifier(state):
        labels = checkpoint_source.num_labels(state)
        model = classifier_lib.EmbBertClassifier(config, num_labels=labels)
        backbone = model.backbone
        source.fill_head(model.head)
    else:
        model = backbone = backbone_lib.EmbBertBackbone(config)
    _fill_embedder(backbone.embedder, source, config)
    for index, block in enumerate(backbone.blocks):
        _fill_block(block, source, config, index)
    source.finish()
    return model


# PyTorch keeps dense kernels as (out, in), Keras as (in, out); hence the transpositions.


def _fill_embedder(embedder: Any, source: checkpoint_source.Source, config: EmbBertConfig) -> None:
    v, s, d, r = config.vocab_size, config.max_length, config.hidden_size, config.reduced_size
    embedder.token.assign(source.take("embedder.token.weight", (v, r)))
    embedder.token_expander.assign(source.take("embedder.tok_expander.weight", (d, r)).T)
    embedder.position.assign(source.take("embedder.position.weight", (s, r)))
    embedder.position_expander.assign(source.take("embedder.pos_expander.weight", (d, r)).T)
    embedder.segment.assign(source.take("embedder.sentence.weight", (3, d)))


def _fill_block(
    block: Any, source: checkpoint_source.Source, config: EmbBertConfig, index: int
) -> None:
    d, k, e = config.hidden_size, config.kernel_size, config.expansion
    a = f"attentions.{index}"
    block.norm.gain.assign(source.take(f"norms.{index}.weight", (d,)))
    block.lambda_q1.assign(source.take(f"{a}.lambda_q1", (d,)))
    block.lambda_k1.assign(source.take(f"{a}.lambda_k1", (d,)))
    block.lambda_q2.assign(source.take(f"{a}.lambda_q2", (d,)))
    block.lambda_k2.assign(source.take(f"{a}.lambda_k2", (d,)))
    attention, convolution = block.attention, block.convolution
    source.fill_dense(f"{a}.query", attention.query_kernel, attention.query_bias)
    source.fill_dense(f"{a}.att_output", attention.output_kernel, attention.output_bias)
    # (E·D, 1, K), output channel c·E+e from input channel c, to (K, D, E).
    taps = source.take(f"{a}.conv1d.weight", (e * d, 1, k))
    convolution.conv_kernel.assign(taps.reshape(d, e, k).transpose(2, 0, 1))
    convolution.conv_bias.assign(source.take(f"{a}.conv1d.bias", (e * d,)))
    source.fill_dense(f"{a}.contract", convolution.contract_kernel, convolution.contract_bias)


def import_checkpoint(
    path: files.PathLike,
    tokenizer_path: files.PathLike,
    output: files.PathLike,
    options: ImportOptions = ImportOptions(),
    report: Callable[[str], None] = lambda line: None,
) -> Any:
    """Imports a checkpoint file into a folder.

    Args:
        path: `.safetensors`, or a PyTorch state dictionary.
        tokenizer_path: `tokenizer.json` that the weights were trained with.
        output: Folder to write: a run folder, or without a classifier a backbone folder.
        options: What the checkpoint does not say of itself.
        report: Called with each sentence on what was taken off or left out.

    Returns:
        The model, as of `build_model`.

    Raises:
        CheckpointError: The file does not hold an EmbBERT.
        FileError: The file cannot be opened, or the folder not be written.
        RunError: The labels, the tokenizer or what the folder holds do not fit.
        TokenizerError: The tokenizer cannot be read.
    """
    output = pathlib.Path(output)
    tokenizer_lib.load_tokenizer(tokenizer_path)
    _check_output(output)
    state = checkpoint_reader.read_state(path, options.ignore)
    try:
        model = build_model(checkpoint_names.published_state(state, report))
    except errors.CheckpointError as error:
        raise errors.CheckpointError(f"{path}: {error}") from error
    backbone_folder.check_tokenizer(tokenizer_path, model.config)
    origin = {"imported": pathlib.Path(path).name}
    if hasattr(model, "num_labels"):
        labels = _labels(path, model.num_labels, options)
        _clear(output)
        _save_run(output, model, tokenizer_path, labels, options, origin)
    else:
        _clear(output)
        backbone_folder.save_backbone(output, model, tokenizer_path, origin)
    return model


# What an import writes.
_OWN = (
    run_folder.CONFIG,
    run_folder.FP32,
    run_folder.LABELS,
    run_folder.TOKENIZER,
    backbone_folder.BACKBONE,
)


def _check_output(output: pathlib.Path) -> None:
    """Makes sure that a folder can be written and holds nothing of a training.

    What is there already would belong to other weights.

    Raises:
        FileError: It cannot be written.
        RunError: It holds something else than an import.
    """
    files.check_folder(output)
    if not output.is_dir():
        return
    names = sorted(entry.name for entry in output.iterdir())
    other = [name for name in names if name not in _OWN and not name.startswith(".")]
    if (output / run_folder.CONFIG).exists() and not other:
        origin = run_folder.read_settings(output).get("origin")
        other = [] if isinstance(origin, dict) and "imported" in origin else [run_folder.CONFIG]
    if other:
        raise errors.RunError(
            f"{output}: holds {other[0]}, which is not of an import; choose a new folder"
        )


def _clear(output: pathlib.Path) -> None:
    """Deletes what an import before left, but for the tokenizer, which may be this import's."""
    for name in _OWN:
        if name != run_folder.TOKENIZER:
            (output / name).unlink(missing_ok=True)


def _labels(path: files.PathLike, num_labels: int, options: ImportOptions) -> list[str]:
    """Returns the names of the logits; none for a regression.

    Raises:
        RunError: There are more or fewer of one than of the other.
    """
    if options.task == "regression":
        if num_labels != 1:
            raise errors.RunError(
                f"{path}: {num_labels} logits; a regression has one (--task=classification)"
            )
        return []
    if num_labels == 1:
        raise errors.RunError(
            f"{path}: one logit; a classification has two or more (--task=regression)"
        )
    if not options.labels:
        return [str(index) for index in range(num_labels)]
    if len(options.labels) != num_labels:
        raise errors.RunError(f"{path}: {num_labels} logits, but {len(options.labels)} labels")
    return list(options.labels)


def _save_run(
    output: pathlib.Path,
    model: Any,
    tokenizer_path: files.PathLike,
    labels: list[str],
    options: ImportOptions,
    origin: dict[str, str],
) -> None:
    files.make_folder(output)
    files.copy(tokenizer_path, output / run_folder.TOKENIZER)
    if labels:
        run_folder.write_labels(output / run_folder.LABELS, labels)
    settings = {"config": model.config.to_dict(), "task": options.task, "pair": options.pair}
    files.write_json(output / run_folder.CONFIG, settings | {"origin": origin})
    # Last, since a run folder that has it counts as finished.
    files.write_atomic(output / run_folder.FP32, lambda temporary: model.save(temporary))
