"""EmbBERT or one of the models that it is compared with, by their sizes."""

from typing import Any

from embbert_tf.baselines.config import ARCHITECTURES, BaselineConfig
from embbert_tf.model.config import PRESETS, EmbBertConfig

AnyConfig = EmbBertConfig | BaselineConfig

EMBBERT = "embbert"
NAMES = (EMBBERT, *ARCHITECTURES)


def new_config(architecture: str, preset: str) -> AnyConfig:
    """Returns published sizes.

    Args:
        architecture: Of `NAMES`.
        preset: Of `PRESETS`, for EmbBERT.
    """
    return PRESETS[preset] if architecture == EMBBERT else ARCHITECTURES[architecture]


def config_of(fields: dict[str, Any]) -> AnyConfig:
    """Returns the sizes that `to_dict` of either configuration gave.

    Raises:
        OptionError: A field is unknown or a value does not fit.
    """
    return (BaselineConfig if "kind" in fields else EmbBertConfig).from_dict(fields)


def new_backbone(config: AnyConfig, **kwargs: Any) -> Any:
    """Returns an `EmbBertBackbone` or a `BaselineBackbone` with random weights.

    Args:
        config: Its sizes.
        **kwargs: Of `keras.Model`.
    """
    # Keras takes seconds to load, and sizes are read without it.
    if not isinstance(config, BaselineConfig):
        from embbert_tf.model.backbone import EmbBertBackbone

        return EmbBertBackbone(config, **kwargs)
    from embbert_tf.baselines import bert, efficient_bert, embedder_only, mamba

    kinds = {
        "transformer": bert.Bert,
        "efficient": efficient_bert.EfficientBert,
        "mamba": mamba.Mamba,
        "embedder": embedder_only.EmbedderOnly,
    }
    return kinds[config.kind](config, **kwargs)


def new_classifier(config: AnyConfig, num_labels: int, dropout: float = 0.1) -> Any:
    """Returns an `EmbBertClassifier` or a `BaselineClassifier` with random weights."""
    if isinstance(config, BaselineConfig):
        from embbert_tf.baselines.classifier import BaselineClassifier

        return BaselineClassifier(config, num_labels, dropout=dropout)
    from embbert_tf.model.classifier import EmbBertClassifier

    return EmbBertClassifier(config, num_labels, dropout=dropout)
