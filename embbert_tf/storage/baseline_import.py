"""Brings the published checkpoints of the compared models into Keras, one explicit line a tensor.

PyTorch keeps dense kernels as (out, in), Keras as (in, out); hence the transpositions.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from embbert_tf import errors
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.storage import checkpoint_source
from embbert_tf.storage.checkpoint_source import Source

# What stands in front of a layer's number.
_LAYERS = {
    "transformer": "bert_layers.layers",
    "efficient": "pre_norms",
    "mamba": "mamba_layers.layers",
}
# No tensor tells it; all published ones have two.
_HEADS = 2


def kind_of(state: Mapping[str, np.ndarray]) -> str:
    """Returns the kind of model, as in `BaselineConfig`; "" if it is none of these."""
    bare = [name.removeprefix("model.") for name in state]
    for kind, layers in _LAYERS.items():
        if any(name.startswith(f"{layers}.") for name in bare):
            return kind
    others = [name for name in bare if not name.startswith(("embedder.", "conv1d.", "classifier."))]
    return "" if others or "embedder.token.weight" not in bare else "embedder"


def build_model(state: Mapping[str, np.ndarray], kind: str) -> Any:
    """Builds the Keras model of a published state dictionary.

    Args:
        state: Names as in the published checkpoints.
        kind: From `kind_of`.

    Returns:
        `BaselineClassifier` if the state has a classifier, else `BaselineBackbone`.

    Raises:
        CheckpointError: Tensors are missing, surplus or misshapen; the message names them all.
    """
    source = Source(state, checkpoint_source.prefix(state))
    config = _config(source, state, kind)
    # Keras takes seconds to load, and a damaged file should be refused before.
    from embbert_tf.baselines import any_model

    model: Any
    if checkpoint_source.has_classifier(state):
        model = any_model.new_classifier(config, checkpoint_source.num_labels(state))
        backbone = model.backbone
        source.fill_head(model.head)
    else:
        model = backbone = any_model.new_backbone(config)
    _fill_embedder(backbone.embedder, source, config)
    fill = {
        "transformer": _fill_transformer,
        "efficient": _fill_efficient,
        "mamba": _fill_mamba,
        "embedder": _fill_convolution,
    }
    fill[kind](backbone, source, config)
    source.finish()
    return model


def _config(source: Source, state: Mapping[str, np.ndarray], kind: str) -> BaselineConfig:
    """Reads the sizes of a model off its tensors.

    Raises:
        CheckpointError: A tensor that tells a size is missing, or tells none that can be.
    """
    vocab_size, width = source.shape("embedder.token.weight", 2)
    max_length, _ = source.shape("embedder.position.weight", 2)
    _, hidden_size = source.shape("embedder.sentence.weight", 2)
    narrow = any(name.endswith("embedder.tok_expander.weight") for name in state)
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "max_length": max_length,
        "hidden_size": hidden_size,
        "reduced_size": width if narrow else 0,
    }
    if kind == "embedder":
        if any(name.endswith("conv1d.weight") for name in state):
            sizes |= {"num_layers": 1, "kernel_size": source.shape("conv1d.weight", 3)[2]}
    else:
        layers = _LAYERS[kind]
        pattern = rf"(?:model\.)?{re.escape(layers)}\.(\d+)\."
        numbers = {int(match[1]) for name in state if (match := re.match(pattern, name))}
        # The least number that is no layer's: above a gap there would be layers without end.
        sizes["num_layers"] = next(n for n in range(len(numbers) + 1) if n not in numbers)
        if not sizes["num_layers"]:
            raise errors.CheckpointError(f"missing {layers}.0")
        sizes |= _layer_sizes(source, f"{layers}.0.", kind)
    try:
        return BaselineConfig(kind, **sizes)
    except errors.OptionError as error:
        raise errors.CheckpointError(f"the tensors' sizes do not go together: {error}") from error


def _layer_sizes(source: Source, layer: str, kind: str) -> dict[str, int]:
    if kind == "transformer":
        return {
            "num_heads": _HEADS,
            "feed_forward": source.shape(f"{layer}linear1.weight", 2)[0],
        }
    if kind == "efficient":
        return {"feed_forward": source.shape("feed_forward.0.0.weight", 2)[0]}
    inner, _, taps = source.shape(f"{layer}mixer.conv1d.weight", 3)
    return {
        "inner_size": inner,
        "kernel_size": taps,
        "state_size": source.shape(f"{layer}mixer.A_log", 2)[1],
        "step_rank": source.shape(f"{layer}mixer.dt_proj.weight", 2)[1],
    }


def _fill_embedder(embedder: Any, source: Source, config: BaselineConfig) -> None:
    d, width = config.hidden_size, config.reduced_size or config.hidden_size
    embedder.token.assign(source.take("embedder.token.weight", (config.vocab_size, width)))
    embedder.position.assign(source.take("embedder.position.weight", (config.max_length, width)))
    embedder.segment.assign(source.take("embedder.sentence.weight", (3, d)))
    if config.reduced_size:
        embedder.token_expander.assign(source.take("embedder.tok_expander.weight", (d, width)).T)
        embedder.position_expander.assign(source.take("embedder.pos_expander.weight", (d, width)).T)


def _fill_transformer(backbone: Any, source: Source, config: BaselineConfig) -> None:
    d = config.hidden_size
    for index, layer in enumerate(backbone.blocks):
        name = f"{_LAYERS['transformer']}.{index}."
        kernels = np.split(source.take(f"{name}self_attn.in_proj_weight", (3 * d, d)), 3)
        biases = np.split(source.take(f"{name}self_attn.in_proj_bias", (3 * d,)), 3)
        layer.query_kernel.assign(kernels[0].T)
        layer.key_kernel.assign(kernels[1].T)
        layer.value_kernel.assign(kernels[2].T)
        layer.query_bias.assign(biases[0])
        layer.key_bias.assign(biases[1])
        layer.value_bias.assign(biases[2])
        source.fill_dense(f"{name}self_attn.out_proj", layer.output_kernel, layer.output_bias)
        source.fill_dense(f"{name}linear1", layer.first_kernel, layer.first_bias)
        source.fill_dense(f"{name}linear2", layer.second_kernel, layer.second_bias)
        layer.gain1.assign(source.take(f"{name}norm1.weight", (d,)))
        layer.shift1_bias.assign(source.take(f"{name}norm1.bias", (d,)))
        layer.gain2.assign(source.take(f"{name}norm2.weight", (d,)))
        layer.shift2_bias.assign(source.take(f"{name}norm2.bias", (d,)))


def _fill_efficient(backbone: Any, source: Source, config: BaselineConfig) -> None:
    d = config.hidden_size
    for index, layer in enumerate(backbone.blocks):
        attention, dense = f"attentions.{index}", f"feed_forward.{index}"
        layer.gain1.assign(source.take(f"pre_norms.{index}.weight", (d,)))
        layer.gain2.assign(source.take(f"post_norms.{index}.weight", (d,)))
        source.fill_dense(f"{attention}.query", layer.query_kernel, layer.query_bias)
        source.fill_dense(f"{attention}.output_linear", layer.output_kernel, layer.output_bias)
        source.fill_dense(f"{dense}.0", layer.first_kernel, layer.first_bias)
        source.fill_dense(f"{dense}.2", layer.second_kernel, layer.second_bias)


def _fill_mamba(backbone: Any, source: Source, config: BaselineConfig) -> None:
    d, inner, taps = config.hidden_size, config.inner_size, config.kernel_size
    rank, states = config.step_rank, config.state_size
    for index, layer in enumerate(backbone.blocks):
        name = f"{_LAYERS['mamba']}.{index}."
        mixer = f"{name}mixer."
        layer.gain.assign(source.take(f"{name}norm.weight", (d,)))
        layer.in_kernel.assign(source.take(f"{mixer}in_proj.weight", (2 * inner, d)).T)
        layer.conv_kernel.assign(source.take(f"{mixer}conv1d.weight", (inner, 1, taps))[:, 0].T)
        layer.conv_bias.assign(source.take(f"{mixer}conv1d.bias", (inner,)))
        layer.x_kernel.assign(source.take(f"{mixer}x_proj.weight", (rank + 2 * states, inner)).T)
        source.fill_dense(f"{mixer}dt_proj", layer.step_kernel, layer.step_bias)
        layer.log_decay.assign(source.take(f"{mixer}A_log", (inner, states)))
        layer.skip.assign(source.take(f"{mixer}D", (inner,)))
        layer.out_kernel.assign(source.take(f"{mixer}out_proj.weight", (d, inner)).T)


def _fill_convolution(backbone: Any, source: Source, config: BaselineConfig) -> None:
    if not config.num_layers:
        return
    d, taps = config.hidden_size, config.kernel_size
    backbone.conv_kernel.assign(source.take("conv1d.weight", (d, 1, taps))[:, 0].T)
    backbone.conv_bias.assign(source.take("conv1d.bias", (d,)))
