"""Fits a model epoch by epoch, so that a killed process loses the epoch it was in and no more."""

import pathlib
import sys
import time

import numpy as np
import tensorflow as tf
from absl import logging
from tensorflow import keras

from embbert_tf.data import batches
from embbert_tf.training import checkpoint as checkpoint_lib
from embbert_tf.training import distillation, metrics
from embbert_tf.training import optimizer as optimizer_lib


@keras.utils.register_keras_serializable(package="embbert_tf")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine down to a fiftieth.

    Args:
        peak: Highest learning rate.
        steps: Steps in all.
        warmup: Share of the steps that warm up.
    """

    def __init__(self, peak, steps, warmup=0.1):
        self.peak, self.steps, self.warmup = peak, steps, warmup

    def __call__(self, step):
        """Returns the rate of a step."""
        step = tf.cast(step, tf.float32)
        rise = tf.minimum((step + 1.0) / max(self.warmup * self.steps, 1.0), 1.0)
        fall = 0.5 * (1.0 + tf.cos(np.pi * tf.minimum(step / self.steps, 1.0)))
        return self.peak * rise * (0.02 + 0.98 * fall)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup}


class Progress(keras.callbacks.Callback):
    """One line every few seconds: step, loss, tokens a second."""

    def __init__(self, label, steps):
        super().__init__()
        self._label, self._steps = label, steps
        self._last = self._start = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self._last = self._start = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        """Prints when the last line is ten seconds old."""
        now = time.monotonic()
        if now - self._last >= 10:
            self._last = now
            left = (now - self._start) / (batch + 1) * (self._steps - batch - 1)
            loss = (logs or {}).get("loss", float("nan"))
            print(
                f"  {self._label}: step {batch + 1}/{self._steps}, loss {loss:.4f}, "
                f"{left:.0f} s left of this epoch",
                flush=True,
            )


def fit(
    model,
    train: tuple[list[list[int]], np.ndarray],
    valid: tuple[list[list[int]], np.ndarray],
    *,
    checkpoint: pathlib.Path,
    label: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    max_length: int,
    labels: list[str],
    label_smoothing: float = 0.0,
    token_dropout: float = 0.0,
    vocab_size: int = 0,
    patience: int = 3,
    seed: int = 0,
    ema: float = 0.0,
    teaching: distillation.Teaching | None = None,
    keep: str = "best",
) -> list[dict]:
    """Trains with AdamW and leaves the best or the last epoch's weights in the model.

    After every epoch weights, optimizer and history go to `checkpoint` in one atomic step; called
    again with the same arguments, it goes on after the last finished epoch.

    Args:
        model: A Keras model from ids to logits.
        train: Token ids and targets (class indices, or scores if there are no `labels`; -1 or NaN
            where only `teaching` has something to say).
        valid: The same, to choose the best epoch and to stop early.
        checkpoint: File to resume from.
        label: What is trained, for the progress lines.
        epochs: Epochs at most.
        batch_size: Texts a step.
        learning_rate: Peak of the schedule.
        weight_decay: AdamW's.
        max_length: Longest text in tokens.
        labels: Class names; empty for a regression.
        label_smoothing: Share of the target spread over all classes.
        token_dropout: Share of training tokens that are replaced.
        vocab_size: Of the tokens that replace others.
        patience: Epochs without improvement before it stops, where the best epoch is kept.
        seed: Of the order of texts.
        ema: Decay of the weights' exponential moving average; 0 keeps the weights themselves.
            With it, the averages are measured and kept.
        teaching: A teacher's opinion of each training text, or None.
        keep: Which epoch's weights stay, "best" (of `valid`) or "last".

    Returns:
        History: a dictionary an epoch.
    """
    steps = -(-len(train[0]) // batch_size)
    optimizer = optimizer_lib.AdamW(
        WarmupCosine(learning_rate, epochs * steps),
        weight_decay=weight_decay,
        clipnorm=1.0,
        ema=ema,
    )
    # Biases, gains and factors are few and have no size to shrink.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gain", "lambda"])
    if teaching is not None:
        loss = distillation.loss(labels, label_smoothing, teaching.temperature)
        goal = distillation.goals(train[1], labels, teaching)
    elif labels:
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=label_smoothing
        )
        goal = np.eye(len(labels), dtype=np.float32)[np.asarray(train[1])]
    else:
        loss = keras.losses.MeanSquaredError()
        goal = np.asarray(train[1], np.float32)[:, np.newaxis]
    model.compile(optimizer=optimizer, loss=loss)
    optimizer.build(model.trainable_variables)

    history: list[dict] = []
    best, best_score, first = model.get_weights(), -np.inf, 0
    if checkpoint.exists():
        best, state = checkpoint_lib.load_state(checkpoint, model, optimizer)
        history, best_score = state["history"], state["best"]
        first = len(history)
        print(f"{label}: resuming after epoch {first}", flush=True)
    for epoch in range(first, epochs):
        if keep == "best" and stalled(history, patience):
            break
        data = batches.dataset(
            train[0],
            goal,
            batch_size,
            max_length,
            (seed, epoch),
            token_dropout,
            vocab_size,
        )
        start = time.monotonic()
        result = model.fit(
            data, epochs=1, verbose=0, callbacks=[Progress(f"{label} {epoch + 1}", steps)]
        )
        seconds = time.monotonic() - start
        with optimizer.averaged(model.trainable_variables):
            logits = batches.predict(model, valid[0], max_length)
            candidate = model.get_weights()
        if labels:
            measured = metrics.classification(logits, valid[1], labels)
            score, named = measured["accuracy"], f"accuracy {measured['accuracy']:.4f}"
        else:
            measured = metrics.regression(logits, valid[1])
            score, named = measured["spearman"], f"spearman {measured['spearman']:.4f}"
        tokens = sum(map(len, train[0]))
        history.append({"loss": result.history["loss"][0], "valid": score, "best": False})
        if score > best_score:
            best_score = score
            history[-1]["best"] = True
        if history[-1]["best"] or keep == "last":
            best = candidate
        print(
            f"{label}: epoch {epoch + 1}/{epochs}  loss {history[-1]['loss']:.4f}  "
            f"validation {named}{' *' if history[-1]['best'] else ''}  {seconds:.0f} s, "
            f"{tokens / seconds:.0f} tokens/s",
            flush=True,
        )
        if not np.isfinite(history[-1]["loss"]):
            logging.error("the loss is not finite; try a lower --learning_rate")
            sys.exit(1)
        checkpoint_lib.save_state(
            checkpoint, model, optimizer, best, {"history": history, "best": best_score}
        )
    model.set_weights(best)
    return history


def stalled(history: list[dict], patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    last_best = max((i for i, entry in enumerate(history) if entry["best"]), default=-1)
    return bool(history) and len(history) - 1 - last_best >= patience
