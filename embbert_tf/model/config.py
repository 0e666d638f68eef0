"""The hyperparameters of an EmbBERT model, and the named sizes."""

import dataclasses
from typing import Any

from embbert_tf import errors


@dataclasses.dataclass(frozen=True)
class EmbBertConfig:
    """Sizes of an EmbBERT model (arXiv 2502.10001, section 4 and its hyperparameter table).

    Example:
    ```python
    import dataclasses
    from embbert_tf.model.config import PRESETS, EmbBertConfig

    config = EmbBertConfig(vocab_size=4096, num_layers=2)
    config = dataclasses.replace(PRESETS["embbert"], vocab_size=4096)
    ```

    Attributes:
        vocab_size: V, number of token ids, the five special ones included.
        max_length: S, longest sequence in tokens, special tokens included.
        hidden_size: D, width of the hidden states.
        reduced_size: R, width of the token and position tables before expansion to D.
        num_layers: N, number of blocks.
        kernel_size: K, taps of the causal depthwise convolution.
        expansion: E, convolution channels per hidden channel.
        dropout: Probability of dropping an attention weight while training.
        num_heads: Attention heads; the family uses one and only one is implemented.

    Raises:
        OptionError: if a size is not a positive integer, `dropout` is outside [0, 1) or
            `num_heads` is not 1.
    """

    vocab_size: int = 8192
    max_length: int = 256
    hidden_size: int = 128
    reduced_size: int = 16
    num_layers: int = 4
    kernel_size: int = 32
    expansion: int = 1
    dropout: float = 0.1
    num_heads: int = 1

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "dropout":
                if not 0.0 <= value < 1.0:
                    raise errors.OptionError(f"dropout must be in [0, 1), not {value}")
            elif not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise errors.OptionError(f"{field.name} must be a positive integer, not {value!r}")
        if self.num_heads != 1:
            raise errors.OptionError(f"num_heads must be 1 (as in the paper), not {self.num_heads}")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "EmbBertConfig":
        """Builds a configuration from `to_dict`'s dictionary.

        Raises:
            OptionError: if a field is unknown or a value does not fit.
        """
        unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise errors.OptionError(f"unknown configuration fields: {', '.join(unknown)}")
        return cls(**fields)


PRESETS = {
    # The published family; behind each its parameters without a head.
    "nano": EmbBertConfig(  # 65,856
        vocab_size=2048, hidden_size=64, num_layers=2, kernel_size=8
    ),
    "tiny": EmbBertConfig(vocab_size=2048, num_layers=2, kernel_size=16),  # 146,048
    "embbert": EmbBertConfig(),  # 357,248: the reference model
    "medium": EmbBertConfig(  # 1,834,752
        max_length=512, hidden_size=256, num_layers=6, expansion=2
    ),
    "big": EmbBertConfig(  # 7,306,752
        vocab_size=16384,
        max_length=1024,
        hidden_size=512,
        reduced_size=32,
        num_layers=6,
        kernel_size=64,
        expansion=2,
    ),
    # For quick tests: the same structure with every size small, and E > 1 so that the channel
    # order of the expanded convolution is exercised.
    "test": EmbBertConfig(
        vocab_size=256,
        max_length=32,
        hidden_size=16,
        reduced_size=8,
        num_layers=2,
        kernel_size=4,
        expansion=2,
    ),
}
