"""The hyperparameters of the compared models, and their published sizes."""

import dataclasses
from typing import Any

from embbert_tf import errors

KINDS = ("transformer", "efficient", "mamba", "embedder")


@dataclasses.dataclass(frozen=True)
class BaselineConfig:
    """Sizes of a model that EmbBERT is compared with (arXiv 2502.10001, its baselines).

    Example:
    ```python
    import dataclasses
    from embbert_tf.baselines.config import ARCHITECTURES

    config = dataclasses.replace(ARCHITECTURES["bert"], vocab_size=4096)
    ```

    Attributes:
        kind: "transformer" (post-norm, as in BERT), "efficient" (a transformer whose keys and
            values are its input), "mamba", or "embedder", which has no layers.
        vocab_size: V, number of token ids, the five special ones included.
        max_length: S, longest sequence in tokens, special tokens included.
        hidden_size: D, width of the hidden states.
        reduced_size: R, width of the token and position tables before expansion to D (the "nano
            embedder"); 0 for tables of width D.
        num_layers: N, number of layers; of an embedder 0, or 1 for a convolution after it.
        num_heads: H, attention heads; of a transformer.
        feed_forward: F, width of the feed-forward part; of both transformers.
        inner_size: ED, channels of the recurrence; of a mamba.
        kernel_size: K, taps of the causal depthwise convolution; of a mamba or an embedder.
        state_size: n, numbers that each channel of the recurrence remembers.
        step_rank: r, rank of the step size's projection.
        dropout: Probability of dropping in training: attention weights and what each part adds.
        attend_to_padding: Whether padding counts, as in the published models: their answers
            depend on how far a text was padded.

    Raises:
        OptionError: A size does not suit the kind.
    """

    kind: str
    vocab_size: int = 8192
    max_length: int = 256
    hidden_size: int = 128
    reduced_size: int = 0
    num_layers: int = 0
    num_heads: int = 0
    feed_forward: int = 0
    inner_size: int = 0
    kernel_size: int = 0
    state_size: int = 0
    step_rank: int = 0
    dropout: float = 0.1
    attend_to_padding: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise errors.OptionError(f"kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        needed = {"vocab_size", "max_length", "hidden_size"}
        needed |= {
            "transformer": {"num_layers", "num_heads", "feed_forward"},
            "efficient": {"num_layers", "feed_forward"},
            "mamba": {"num_layers", "inner_size", "kernel_size", "state_size", "step_rank"},
            "embedder": {"kernel_size"} if self.num_layers else set(),
        }[self.kind]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is not int:
                continue
            integer = isinstance(value, int) and not isinstance(value, bool)
            if not integer or value < (field.name in needed):
                raise errors.OptionError(
                    f"{field.name} of {self.what} must be a whole number of at least "
                    f"{int(field.name in needed)}, not {value!r}"
                )
        if not 0.0 <= self.dropout < 1.0:
            raise errors.OptionError(f"dropout must be in [0, 1), not {self.dropout}")
        if self.num_heads and self.hidden_size % self.num_heads:
            raise errors.OptionError(
                f"hidden_size {self.hidden_size} is no multiple of {self.num_heads} heads"
            )
        if self.kind == "embedder" and self.num_layers > 1:
            raise errors.OptionError(f"num_layers of an embedder is 0 or 1, not {self.num_layers}")

    @property
    def what(self) -> str:
        """What a message calls the model."""
        return {
            "transformer": "a transformer",
            "efficient": "an efficient transformer",
            "mamba": "a MAMBA",
            "embedder": "an embedder",
        }[self.kind]

    @property
    def pooled(self) -> bool:
        """Whether the head reads the root mean square of all rows, and not row 0.

        Row 0 of a causal model has seen `[CLS]` alone.
        """
        return self.kind in ("mamba", "embedder")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "BaselineConfig":
        """Builds a configuration from `to_dict`'s dictionary.

        Raises:
            OptionError: A field is unknown or a value does not fit.
        """
        unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise errors.OptionError(f"unknown configuration fields: {', '.join(unknown)}")
        return cls(**fields)


ARCHITECTURES = {
    # As published; behind each its parameters without a head.
    "bert": BaselineConfig(  # 288,720
        "transformer",
        vocab_size=2048,
        hidden_size=80,
        num_layers=2,
        num_heads=2,
        feed_forward=160,
    ),
    "nano_bert": BaselineConfig(  # 269,898
        "transformer",
        hidden_size=90,
        reduced_size=16,
        num_layers=2,
        num_heads=2,
        feed_forward=180,
    ),
    "bert_ea": BaselineConfig(  # 322,560
        "efficient", vocab_size=2048, hidden_size=84, num_layers=3, feed_forward=168
    ),
    "bert_ne_ea": BaselineConfig(  # 364,772
        "efficient", hidden_size=128, reduced_size=16, num_layers=4, feed_forward=89
    ),
    "mamba": BaselineConfig(  # 219,968
        "mamba",
        vocab_size=2048,
        hidden_size=64,
        num_layers=5,
        inner_size=64,
        kernel_size=4,
        state_size=6,
        step_rank=4,
    ),
    "mamba_ne": BaselineConfig(  # 201,936
        "mamba",
        hidden_size=48,
        reduced_size=16,
        num_layers=4,
        inner_size=96,
        kernel_size=4,
        state_size=4,
        step_rank=3,
    ),
    "embedder": BaselineConfig(  # 291,776
        "embedder", hidden_size=320, reduced_size=32
    ),
    "embedder_conv": BaselineConfig(  # 297,216
        "embedder", hidden_size=320, reduced_size=32, num_layers=1, kernel_size=16
    ),
}
