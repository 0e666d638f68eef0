"""Fits a model epoch by epoch, so that a killed process loses the epoch it was in and no more."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf import errors
from embbert_tf.data import batches
from embbert_tf.training import checkpoint as checkpoint_lib
from embbert_tf.training import distillation, embedding_targets, metrics
from embbert_tf.training import optimizer as optimizer_lib

# TensorFlow takes as many steps in one go as have this many tokens: the loop over short steps is
# not Python's, and long ones still report every few seconds.
_TOKENS_AT_ONCE = 8192
_MOST_STEPS_AT_ONCE = 50


class DivergenceError(errors.EmbBertError):
    """The loss is no finite number any more."""


@keras.utils.register_keras_serializable(package="embbert_tf")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine down to a fiftieth.

    Args:
        peak: Highest learning rate.
        steps: Steps in all.
        warmup: Share of the steps that warm up.
    """

    def __init__(self, peak: float, steps: int, warmup: float = 0.1):
        self.peak, self.steps, self.warmup = peak, steps, warmup

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the rate of a step."""
        step = tf.cast(step, tf.float32)
        rise = tf.minimum((step + 1.0) / max(self.warmup * self.steps, 1.0), 1.0)
        fall = 0.5 * (1.0 + tf.cos(np.pi * tf.minimum(step / self.steps, 1.0)))
        return self.peak * rise * (0.02 + 0.98 * fall)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup}


class Progress(keras.callbacks.Callback):
    """One line every few seconds: step, loss, time left.

    Args:
        label: What is trained, and in which epoch.
        steps: Of an epoch.
    """

    def __init__(self, label: str, steps: int):
        super().__init__()
        self._label, self._steps = label, steps
        self._last = self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self._last = self._start = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Prints when the last line is ten seconds old.

        Raises:
            DivergenceError: The loss, a mean over the epoch so far, is not finite.
        """
        loss = (logs or {}).get("loss", float("nan"))
        if not np.isfinite(loss):
            raise DivergenceError(
                f"{self._label}: the loss is not finite at step {batch + 1} of {self._steps}; "
                "take a lower learning rate (--learning_rate)"
            )
        now = time.monotonic()
        if now - self._last >= 10:
            self._last = now
            left = (now - self._start) / (batch + 1) * (self._steps - batch - 1)
            print(
                f"  {self._label}: step {batch + 1}/{self._steps}, loss {loss:.4f}, "
                f"{left:.0f} s left of this epoch",
                flush=True,
            )


@dataclasses.dataclass
class _Course:
    """How far a training has come.

    Attributes:
        weights: Of the epoch that is kept so far.
        score: Of the best epoch on the validation rows.
        history: A dictionary an epoch: loss, valid (its score) and best (whether it was, so far).
    """

    weights: list[np.ndarray]
    score: float = -np.inf
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, loss: float, score: float, weights: list[np.ndarray], keep: str) -> None:
        """Takes in the result of an epoch; its weights, if they are to be kept."""
        best = score > self.score
        self.history.append({"loss": loss, "valid": score, "best": best})
        if best:
            self.score = score
        if best or keep == "last":
            self.weights = weights


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        epochs: Epochs at most.
        batch_size: Texts a step.
        learning_rate: Peak of the schedule.
        weight_decay: AdamW's.
        label_smoothing: Share of the target spread over all classes.
        token_dropout: Share of training tokens that are replaced.
        vocab_size: Of the tokens that replace others.
        patience: Epochs without improvement before it stops, where the best epoch is kept.
        seed: Of the order of texts.
        ema: Decay of the weights' exponential moving average; 0 keeps the weights themselves.
            With it, the averages are measured and kept.
        keep: Which epoch's weights stay, "best" (of the validation rows) or "last".
        relations: Of an encoder, the weight of the relations within a batch.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float = 0.0
    token_dropout: float = 0.0
    vocab_size: int = 0
    patience: int = 3
    seed: int = 0
    ema: float = 0.0
    keep: str = "best"
    relations: float = 0.0


def fit(
    model: keras.Model,
    train: tuple[list[list[int]], np.ndarray],
    valid: tuple[list[list[int]], np.ndarray],
    settings: Settings,
    *,
    checkpoint: pathlib.Path,
    label: str,
    labels: Sequence[str],
    teaching: distillation.Teaching | None = None,
) -> list[dict[str, Any]]:
    """Trains with AdamW and leaves the best or the last epoch's weights in the model.

    After every epoch weights, optimizer and history go to `checkpoint` in one atomic step; called
    again with the same arguments, it goes on after the last finished epoch.

    Args:
        model: A Keras model from ids to logits.
        train: Token ids and targets (class indices, or scores if there are no `labels`; -1 or NaN
            where only `teaching` has something to say; of an encoder a row a text).
        valid: The same, to choose the best epoch and to stop early.
        settings: How to train.
        checkpoint: File to resume from.
        label: What is trained, for the progress lines.
        labels: Class names; empty for a regression.
        teaching: A teacher's opinion of each training text, or None.

    Returns:
        History: a dictionary an epoch.

    Raises:
        DivergenceError: The loss is not finite any more.
        FileError: The checkpoint cannot be read or written.
    """
    loss, goals = _objective(train[1], labels, settings, teaching)
    optimizer = _compile(model, loss, train[0], settings)
    course = _Course(model.get_weights())
    if checkpoint.exists():
        weights, state = checkpoint_lib.load_state(checkpoint, model, optimizer)
        course = _Course(weights, state["best"], state["history"])
        print(f"{label}: resuming after epoch {len(course.history)}", flush=True)
    for epoch in range(len(course.history), settings.epochs):
        if settings.keep == "best" and stalled(course.history, settings.patience):
            break
        mean_loss, speed = _epoch(model, train[0], goals, settings, epoch, label)
        with optimizer.averaged(model.trainable_variables):
            name, score = _score(batches.predict(model, valid[0]), valid[1], labels)
            course.add(mean_loss, score, model.get_weights(), settings.keep)
        print(
            f"{label}: epoch {epoch + 1}/{settings.epochs}  loss {mean_loss:.4f}  validation "
            f"{name} {score:.4f}{' *' if course.history[-1]['best'] else ''}  {speed}",
            flush=True,
        )
        state = {"history": course.history, "best": course.score}
        checkpoint_lib.save_state(checkpoint, model, optimizer, course.weights, state)
    model.set_weights(course.weights)
    return course.history


def _compile(
    model: keras.Model, loss: Callable, sequences: list[list[int]], settings: Settings
) -> optimizer_lib.AdamW:
    """Compiles the model to train on these texts; returns its optimizer."""
    steps = -(-len(sequences) // settings.batch_size)
    optimizer = optimizer_lib.AdamW(
        WarmupCosine(settings.learning_rate, settings.epochs * steps),
        weight_decay=settings.weight_decay,
        clipnorm=1.0,
        ema=settings.ema,
    )
    # Biases, gains and factors are few and have no size to shrink.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gain", "lambda"])
    tokens = sum(map(len, sequences))
    at_once = min(max(_TOKENS_AT_ONCE * steps // tokens, 1), steps, _MOST_STEPS_AT_ONCE)
    model.compile(optimizer=optimizer, loss=loss, steps_per_execution=at_once)
    optimizer.build(model.trainable_variables)
    return optimizer


def _epoch(
    model: keras.Model,
    sequences: list[list[int]],
    goals: np.ndarray,
    settings: Settings,
    epoch: int,
    label: str,
) -> tuple[float, str]:
    """Trains for one epoch; returns its mean loss, and its speed for the progress line."""
    data = batches.dataset(
        sequences,
        goals,
        settings.batch_size,
        (settings.seed, epoch),
        settings.token_dropout,
        settings.vocab_size,
    )
    progress = Progress(f"{label}: epoch {epoch + 1}", -(-len(sequences) // settings.batch_size))
    start = time.monotonic()
    with _traced_once(model):
        result = model.fit(data, epochs=1, verbose=0, callbacks=[progress])
    seconds = time.monotonic() - start
    tokens = sum(map(len, sequences))
    return result.history["loss"][0], f"{seconds:.0f} s, {tokens / seconds:.0f} tokens/s"


@contextlib.contextmanager
def _traced_once(model: keras.Model) -> Iterator[None]:
    """Makes the step of a Keras model a graph function of its own, as long as the context lasts.

    Keras puts the step into a loop over many, and AutoGraph traces the body of that loop twice, to
    see what comes out of it: seconds for a model of this size. A function's second trace is a call,
    and without AutoGraph, which finds nothing to convert in our layers, the first is quicker.
    """
    # Past Keras's own __setattr__, which would track the function as a part of the model.
    object.__setattr__(model, "train_step", tf.function(model.train_step, autograph=False))
    try:
        yield
    finally:
        object.__delattr__(model, "train_step")


def _objective(
    targets: np.ndarray,
    labels: Sequence[str],
    settings: Settings,
    teaching: distillation.Teaching | None,
) -> tuple[Callable, np.ndarray]:
    """Returns the loss of (goals, logits), and the goals, float32 (count, ...)."""
    if teaching is not None:
        loss = distillation.loss(labels, settings.label_smoothing, teaching.temperature)
        return loss, distillation.goals(targets, labels, teaching)
    if np.ndim(targets) == 2:
        return embedding_targets.loss(settings.relations), np.asarray(targets, np.float32)
    if labels:
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=settings.label_smoothing
        )
        return loss, np.eye(len(labels), dtype=np.float32)[np.asarray(targets)]
    return keras.losses.MeanSquaredError(), np.asarray(targets, np.float32)[:, np.newaxis]


def _score(logits: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> tuple[str, float]:
    """Returns the name and the value of what chooses the best epoch."""
    if np.ndim(targets) == 2:
        return "cosine", embedding_targets.mean_cosine(logits, targets)
    return metrics.main_metric(logits, targets, labels)


def stalled(history: Sequence[dict[str, Any]], patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    last_best = max((i for i, entry in enumerate(history) if entry["best"]), default=-1)
    return bool(history) and len(history) - 1 - last_best >= patience
