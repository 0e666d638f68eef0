"""The options of a pre-training, and of its teacher's embeddings."""

import dataclasses

from embbert_tf import errors
from embbert_tf.baselines import any_model
from embbert_tf.model import option
from embbert_tf.model.config import PRESETS
from embbert_tf.model.option import option as field

_SHORTEST = 8  # Tokens of a sequence that can hold a pair of texts and a masked token.
# What may change from one start of the same pre-training to the next.
_OF_THE_START = ("checkpoint_steps", "log_steps", "stop_after", "replicas")


@option.documented
@dataclasses.dataclass(frozen=True)
class PretrainOptions:
    """How a backbone is pre-trained.

    Example:
    ```python
    from embbert_tf.pretraining.options import PretrainOptions

    options = PretrainOptions(preset="nano", steps=1000, lengths=(32, 64))
    ```

    Raises:
        OptionError: A value is out of bounds, or two contradict each other.
    """

    preset: str = field(any_model.EMBBERT, "Sizes of the model.", choices=tuple(sorted(PRESETS)))
    architecture: str = field(
        any_model.EMBBERT,
        "Kind of the model: EmbBERT, or one that it is compared with (docs/baselines.md), which "
        "has one size.",
        choices=any_model.NAMES,
    )
    vocab_size: int | None = field(
        None, "Tokens of the vocabulary; by default as many as the preset's.", minimum=6
    )
    steps: int = field(20_000, "Optimizer steps.", minimum=1)
    batch_tokens: int = field(
        8192,
        "Tokens in a global batch; a batch of sequences of n tokens has batch_tokens / n rows.",
        minimum=_SHORTEST,
    )
    lengths: tuple[int, ...] = field(
        (64, 128), "Sequence lengths in tokens, one of which is drawn for each step."
    )
    learning_rate: float = field(2e-3, "Highest learning rate.", minimum=0, maximum=10)
    warm_up: int = field(
        400, "Steps over which the rate grows from 0; then it falls to 0.", minimum=0
    )
    weight_decay: float = field(0.01, "AdamW's, on matrices alone.", minimum=0, maximum=10)
    muon_rate: float = field(
        0.02,
        "Highest learning rate of Muon, which trains the square matrices; 0 leaves them to AdamW.",
        minimum=0,
        maximum=10,
    )
    ema: float = field(
        0.999,
        "Decay of an exponential moving average of the weights, which is what is kept; 0: none.",
        minimum=0,
        maximum=0.99999,
    )
    whole_words: bool = field(False, "Mask all tokens of a word or none.")
    next_sentence: float = field(
        0.5, "Share of the rows that are pairs, for next-sentence prediction.", minimum=0, maximum=1
    )
    bag_of_words: float = field(
        0.3, "Weight of the words of the text, told from [CLS].", minimum=0, maximum=10
    )
    teacher_weight: float = field(
        0.5,
        "Weight of a sentence encoder's embeddings, where there are some: 1 - cosine; a fifth of "
        "it for their relations within the batch. Above the masked words' it ruins those.",
        minimum=0,
        maximum=10,
    )
    text_steps: float = field(
        0.5, "Share of the steps on texts with an embedding, a text a row.", minimum=0, maximum=1
    )
    pair_steps: float = field(
        0.1, "Share of the steps on pairs of those texts, of near ones often.", minimum=0, maximum=1
    )
    seed: int = field(0, "Of weights and batches.", minimum=0, maximum=2**32 - 1)
    checkpoint_steps: int = field(200, "Steps between checkpoints.", minimum=1)
    log_steps: int = field(50, "Steps between progress lines.", minimum=1)
    stop_after: int | None = field(
        None, "Step to stop at, with a checkpoint to go on from.", minimum=1
    )
    replicas: int = field(
        0,
        "Split this machine's CPU into so many replicas; 0 uses its GPUs, or the CPU whole.",
        minimum=0,
    )

    def __post_init__(self):
        option.check(self)
        if self.architecture != any_model.EMBBERT and self.preset != any_model.EMBBERT:
            raise errors.OptionError(
                f"preset {self.preset} is a size of {any_model.EMBBERT}; a {self.architecture} has "
                "one size, leave preset away"
            )
        if self.text_steps + self.pair_steps > 1:
            raise errors.OptionError("text_steps and pair_steps: together above 1, which is all")
        if self.muon_rate and not self.learning_rate:
            raise errors.OptionError("muon_rate: needs a learning_rate whose course it takes")
        if not self.lengths:
            raise errors.OptionError("lengths: give at least one, such as 128")
        for length in self.lengths:
            if not isinstance(length, int):
                raise errors.OptionError(f"lengths: {length!r} is no whole number")
            if length < _SHORTEST:
                raise errors.OptionError(
                    f"lengths: sequences of {length} tokens are too short; use {_SHORTEST} or more"
                )
            if length > self.batch_tokens:
                raise errors.OptionError(
                    f"lengths: a sequence of {length} tokens is longer than a batch of "
                    f"batch_tokens={self.batch_tokens}"
                )

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step, from 0."""
        rise = (step + 1) / max(1, self.warm_up)
        fall = (self.steps - step) / max(1, self.steps - self.warm_up)
        return self.learning_rate * min(1.0, rise, fall)

    def identity(self) -> dict:
        """Returns what must be the same for a stopped pre-training to go on.

        The architecture, which older ones did not record, is said by the model's sizes.
        """
        chosen = dataclasses.asdict(self)
        return {
            name: value
            for name, value in chosen.items()
            if name not in (*_OF_THE_START, "architecture")
        }


@option.documented
@dataclasses.dataclass(frozen=True)
class EmbedOptions:
    """Of which texts a sentence encoder's embeddings are written.

    Raises:
        OptionError: A value is out of bounds.
    """

    count: int = field(300_000, "Texts to draw; all where there are fewer.", minimum=1)
    sentences: float = field(
        0.5,
        "Share of the texts that are a sentence; the others are passages of up to 180 words.",
        minimum=0,
        maximum=1,
    )
    seed: int = field(0, "Of what is drawn.", minimum=0, maximum=2**32 - 1)

    def __post_init__(self):
        option.check(self)
