"""The options of both trainings, each said once.

The fields make the flags of `embbert_tf.train` and `embbert_tf.qat`, and what a run folder records
of a training.
"""

import dataclasses
import os
from typing import Any, TypeVar

from embbert_tf import errors
from embbert_tf.baselines.any_model import EMBBERT, NAMES
from embbert_tf.model.config import PRESETS
from embbert_tf.model.option import check, documented, option

_DEFAULT_PRESET = "embbert"
_KEEP = ("auto", "best", "last")
_ROWS_THAT_CHOOSE = 100
_LARGEST_SEED = 2**32 - 1  # NumPy's
# Options that name files. A run records what was in them, not how they were called.
_FILES = ("tokenizer", "init", "soft_labels", "unlabelled")


@documented
@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """How a classifier or a regression is trained.

    Example:
    ```python
    import embbert_tf

    options = embbert_tf.TrainOptions(preset="tiny", epochs=5, seed=1)
    ```

    Raises:
        OptionError: An option is out of bounds, or does not go with another one.
    """

    preset: str = option(
        _DEFAULT_PRESET,
        "Size of a new model; one that starts from `init` has that one's.",
        choices=tuple(sorted(PRESETS)),
    )
    architecture: str = option(
        EMBBERT,
        "Kind of a new model: EmbBERT, or one that it is compared with, in its published size "
        "(docs/baselines.md).",
        choices=NAMES,
    )
    attend_to_padding: bool = option(
        False,
        "Whether a compared model counts padding as a part of the text, as the published ones "
        "do: answers then depend on how far a text was padded, and it cannot be converted.",
    )
    task: str = option(
        "classification",
        "What the label is: the name of a class, or in a regression a score on any scale.",
        choices=("classification", "regression"),
    )
    vocab_size: int = option(0, "Tokens of a new tokenizer; 0 takes the preset's.", minimum=0)
    tokenizer: str | None = option(None, "Use this tokenizer.json, train none.")
    init: str | None = option(
        None,
        "Run folder whose backbone (and tokenizer) to start from, such as zoo/backbone; of a run "
        "with the same task and labels, the head too.",
    )
    epochs: int = option(
        0,
        "Epochs at most; 0: as many as make 2,500 steps, within 6..40, or with `init` 1,000, "
        "within 3..40.",
        minimum=0,
    )
    patience: int = option(10, "Stop after this many epochs without improvement.", minimum=1)
    keep: str = option(
        "auto",
        "Epoch that stays: the best on the validation rows, or the last; auto: the best where "
        "there are a hundred of those rows, as fewer choose by chance. With the last nothing is "
        "chosen on them: patience stops nothing, and what they measure is not too good.",
        choices=_KEEP,
    )
    batch_size: int = option(32, "Texts a step.", minimum=1)
    learning_rate: float = option(1e-3, "Peak learning rate.", minimum=0, maximum=10)
    weight_decay: float = option(0.05, "AdamW's.", minimum=0, maximum=10)
    label_smoothing: float = option(
        0.1, "Share of the target that is spread over all classes.", minimum=0, maximum=0.9
    )
    token_dropout: float = option(
        0.1, "Share of training tokens that are replaced.", minimum=0, maximum=0.9
    )
    dropout: float = option(
        0.1, "Of attention weights and of the head's input.", minimum=0, maximum=0.9
    )
    ema: float = option(
        0.0,
        "Decay of an exponential moving average of the weights, which is what is measured and "
        "kept; 0: none. About 1 - 10 / (steps of an epoch).",
        minimum=0,
        maximum=0.9999,
    )
    soft_labels: str | None = option(
        None,
        "CSV of a teacher's probabilities: the columns text[,text_pair] and one for each label "
        "(regression: `score`). Texts beside the training texts add to them.",
    )
    teacher_weight: float = option(
        0.5, "Share of the loss that is the teacher's.", minimum=0, maximum=1
    )
    temperature: float = option(
        2.0, "Softens the probabilities of teacher and student.", minimum=0.1, maximum=100
    )
    seed: int = option(
        0, "Of initial weights, order and dropout.", minimum=0, maximum=_LARGEST_SEED
    )

    def __post_init__(self):
        _plain_paths(self)
        check(self)
        if self.init and self.tokenizer:
            raise errors.OptionError(
                "init brings the tokenizer that its weights belong to; leave tokenizer away"
            )
        if self.architecture != EMBBERT and self.preset != _DEFAULT_PRESET:
            raise errors.OptionError(
                f"preset {self.preset} is a size of {EMBBERT}; a {self.architecture} has one size, "
                "leave preset away"
            )
        if self.architecture != EMBBERT and self.init:
            raise errors.OptionError("init brings its architecture; leave architecture away")
        if self.attend_to_padding and self.architecture == EMBBERT:
            raise errors.OptionError(f"attend_to_padding: {EMBBERT} has no such form")
        if self.vocab_size and (self.init or self.tokenizer):
            raise errors.OptionError(
                "vocab_size is that of a new tokenizer, and "
                f"{'init' if self.init else 'tokenizer'} brings one; leave vocab_size away"
            )
        if not self.soft_labels:
            fields = {field.name: field.default for field in dataclasses.fields(self)}
            for name in ("teacher_weight", "temperature"):
                if getattr(self, name) != fields[name]:
                    raise errors.OptionError(f"{name} needs soft_labels to apply to")


@documented
@dataclasses.dataclass(frozen=True)
class QatOptions:
    """How a trained run is fine-tuned with the device's int8 in its forward pass.

    Example:
    ```python
    import embbert_tf

    options = embbert_tf.QatOptions(epochs=1, self_distill=1.0)
    ```

    Raises:
        OptionError: An option is out of bounds, or does not go with another one.
    """

    epochs: int = option(2, "Epochs of fine-tuning.", minimum=1)
    batch_size: int = option(32, "Texts a step.", minimum=1)
    learning_rate: float = option(1e-4, "Peak learning rate.", minimum=0, maximum=10)
    token_dropout: float = option(
        0.1, "Share of training tokens that are replaced.", minimum=0, maximum=0.9
    )
    weight_bits: int = option(
        8,
        "Of the token table and of the dense matrices; 4 halves a model, and the steps are learnt.",
        choices=(8, 4),
    )
    samples: int = option(256, "Training texts from which the ranges start.", minimum=1)
    self_distill: float = option(
        0.5,
        "Share of the loss that is the distance from the run's own fp32 probabilities.",
        minimum=0,
        maximum=1,
    )
    unlabelled: tuple[str, ...] = option(
        (),
        "Files, plain or .gz, with a text a line, to which the term of self_distill alone applies.",
    )
    unlabelled_count: int = option(0, "How many of them to draw at random; 0: all.", minimum=0)
    keep: str = option(
        "auto",
        "Epoch that stays: the best on the validation rows, or the last; auto: the best where "
        "there are a hundred of those rows.",
        choices=_KEEP,
    )
    seed: int = option(0, "Of order and samples.", minimum=0, maximum=_LARGEST_SEED)

    def __post_init__(self):
        _plain_paths(self)
        check(self)
        if self.unlabelled and not self.self_distill:
            raise errors.OptionError("unlabelled texts need a self_distill above 0 to learn from")
        if self.unlabelled_count and not self.unlabelled:
            raise errors.OptionError("unlabelled_count needs unlabelled files to draw from")


@documented
@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """How an encoder is trained.

    Example:
    ```python
    import embbert_tf

    options = embbert_tf.EncoderOptions(init="zoo/backbone", epochs=3)
    ```

    Raises:
        OptionError: An option is out of bounds.
    """

    init: str = option("zoo/backbone", "Backbone or run folder to start from.")
    width: int = option(128, "Numbers of a text's row.", minimum=2, maximum=1024)
    neighbours: int = option(
        15,
        "An embedding becomes the mean of so many near ones, which draws texts of one meaning "
        "together; 0 leaves it as it is.",
        minimum=0,
        maximum=1000,
    )
    relations: float = option(
        0.3, "Weight of the relations within a batch beside the direction.", minimum=0, maximum=10
    )
    epochs: int = option(5, "Epochs.", minimum=1)
    batch_size: int = option(128, "Texts a step.", minimum=2)
    learning_rate: float = option(2e-3, "Peak learning rate.", minimum=0, maximum=10)
    weight_decay: float = option(0.01, "AdamW's.", minimum=0, maximum=10)
    token_dropout: float = option(
        0.0, "Share of training tokens that are replaced.", minimum=0, maximum=0.9
    )
    ema: float = option(
        0.998,
        "Decay of an exponential moving average of the weights, which is what is kept; 0: none.",
        minimum=0,
        maximum=0.9999,
    )
    seed: int = option(0, "Of the order of the texts.", minimum=0, maximum=_LARGEST_SEED)

    def __post_init__(self):
        _plain_paths(self)
        check(self)


# What a run folder records of its training, or of a quantization-aware one.
AnyOptions = TrainOptions | QatOptions | EncoderOptions


def _plain_paths(options: AnyOptions) -> None:
    """Lets an option that names files hold paths of any kind, and none as well as an empty one."""
    for field in dataclasses.fields(options):
        if field.name not in _FILES:
            continue
        value = getattr(options, field.name)
        if isinstance(field.default, tuple) and isinstance(value, list | tuple):
            value = tuple(os.fspath(path) for path in value)
        elif isinstance(value, os.PathLike):
            value = os.fspath(value)
        object.__setattr__(options, field.name, value or field.default)


Options = TypeVar("Options", TrainOptions, QatOptions)


def with_kept(options: Options, rows: int) -> Options:
    """Returns the options with `keep` decided, "best" or "last", by how many rows validate.

    Before they are recorded: a run then says what was done, and one that an earlier version began
    with the best epoch goes on.
    """
    if options.keep != "auto":
        return options
    keep = "best" if rows >= _ROWS_THAT_CHOOSE else "last"
    return dataclasses.replace(options, keep=keep)


def recorded(options: AnyOptions, digests: dict[str, Any]) -> dict[str, Any]:
    """Returns what a run folder records of a training.

    Args:
        options: Its options; those that name files are left out.
        digests: SHA-256 of its input files, by the name of the input; None where there is none.
    """
    values = {k: v for k, v in dataclasses.asdict(options).items() if k not in _FILES}
    return values | {f"{name}_sha256": digest for name, digest in digests.items()}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns the names of what two trainings, as `recorded` has them, do not share.

    Args:
        before: Read from a folder. An option that it lacks was at its default: older runs lack what
            came after them.
        now: Complete.
    """
    kinds: dict[str, type] = {"self_distill": QatOptions, "relations": EncoderOptions}
    kind = next((kinds[name] for name in kinds if name in now), TrainOptions)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    names = sorted({*before, *now})
    return [
        name
        for name in names
        if (before.get(name, defaults.get(name)) or None)
        != (now.get(name, defaults.get(name)) or None)
    ]
