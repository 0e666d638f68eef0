"""The pre-training loop: steps under a distribution strategy, checkpoints, log."""

import contextlib
import dataclasses
import json
import pathlib
import time
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf import errors
from embbert_tf.baselines.any_model import AnyConfig
from embbert_tf.data import files
from embbert_tf.pretraining import batches as batches_lib
from embbert_tf.pretraining import cluster, muon, taught_batches
from embbert_tf.pretraining import model as model_lib
from embbert_tf.pretraining.options import PretrainOptions

AnyBatches = batches_lib.Batches | taught_batches.TaughtBatches
CHECKPOINT = "pretrain-checkpoint.npz"
LOG = "pretrain.log"
_CLIP = 1.0  # Largest norm of the global batch's gradient.


class Trainer:
    """Model, optimizer and one step of training under a distribution strategy.

    Args:
        config: Sizes of the model.
        options: How.
        strategy: Which devices work together.
        embedding_size: d, of a sentence encoder's embeddings; 0 without one.

    Attributes:
        model: `EmbBertPretrainer`.
        step: How many steps have been taken.
    """

    def __init__(
        self,
        config: AnyConfig,
        options: PretrainOptions,
        strategy: tf.distribute.Strategy,
        embedding_size: int = 0,
    ):
        self.options = options
        self.strategy = strategy
        self.step = 0
        keras.utils.set_random_seed(options.seed)
        with strategy.scope():
            self.model = model_lib.EmbBertPretrainer(
                config, bag_of_words=options.bag_of_words > 0, embedding_size=embedding_size
            )
            self.model((tf.zeros([1, 8], tf.int32), tf.zeros([1, 1], tf.int32)))
            self.optimizer = muon.Muon(
                learning_rate=0.0,
                weight_decay=options.weight_decay,
                beta_2=0.98,
                epsilon=1e-8,
                muon_ratio=options.muon_rate / options.learning_rate if options.muon_rate else 0.0,
                ema=options.ema,
            )
            vectors = [v for v in self.model.trainable_variables if len(v.shape) < 2]
            self.optimizer.exclude_from_weight_decay(var_list=vectors)
            self.optimizer.build(self.model.trainable_variables)
        # One graph for each shape: graphs of relaxed shapes round differently, and which of them
        # a step met would depend on where the training was resumed.
        self._train = tf.function(self._train_step)

    def train(self, batch: Sequence[tf.Tensor], rows: int) -> tf.Tensor:
        """Takes one step.

        Args:
            batch: Next element of the distributed dataset.
            rows: Rows of the global batch.

        Returns:
            float32 (len(SUMS),), the sums of `losses` over the global batch.
        """
        self.optimizer.learning_rate.assign(self.options.rate(self.step))
        sums = self._train(batch, tf.constant(rows, tf.int32))
        self.step += 1
        return sums

    def _train_step(self, batch, rows):
        def replica(batch):
            with tf.GradientTape() as tape:
                loss, sums = model_lib.losses(self.model, batch, rows, self.options)
            variables = self.model.trainable_variables
            # Zeros where a step does not ask a head, whose state then moves on all the same.
            gradients = tape.gradient(
                loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
            context = tf.distribute.get_replica_context()
            # Summed before clipping: the norm is the global batch's.
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients, _ = tf.clip_by_global_norm(gradients, _CLIP)
            self.optimizer.apply_gradients(
                zip(gradients, variables, strict=True), skip_gradients_aggregation=True
            )
            return context.all_reduce(tf.distribute.ReduceOp.SUM, sums)

        return self.strategy.experimental_local_results(self.strategy.run(replica, (batch,)))[0]

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Lets the model hold the averages of its weights for the time of a `with` block."""
        return self.optimizer.averaged(self.model.trainable_variables)

    def save(self, path: pathlib.Path, key: str) -> None:
        """Writes weights, optimizer state and step, atomically.

        Args:
            path: `.npz` file.
            key: Settings that `restore` must find again.
        """
        arrays = {
            f"variable_{index}": variable.numpy() for index, variable in enumerate(self._variables)
        }
        arrays["step"] = np.array(self.step)
        arrays["key"] = np.array(key)
        files.write_atomic(path, lambda temporary: np.savez(temporary, **arrays))

    def restore(self, path: pathlib.Path, key: str) -> None:
        """Reads what `save` wrote.

        Args:
            path: `.npz` file.
            key: As for `save`.

        Raises:
            RunError: The checkpoint is of other settings, or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if str(arrays["key"]) != key:
                    raise errors.RunError(
                        f"{path}: the checkpoint was made with other settings; give the same flags "
                        "as before, or another --output"
                    )
                for index, variable in enumerate(self._variables):
                    variable.assign(arrays[f"variable_{index}"])
                self.step = int(arrays["step"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, errors.RunError):
                raise
            raise errors.RunError(
                f"{path}: the checkpoint cannot be read ({error}); delete it to start again"
            ) from error

    @property
    def _variables(self) -> list[tf.Variable]:
        # The learning rate is among the optimizer's variables; `train` sets it before each step.
        return [*self.model.variables, *self.optimizer.variables]


def dataset(
    batches: AnyBatches, strategy: tf.distribute.Strategy, first_step: int, steps: int
) -> Any:
    """Returns the distributed batches from `first_step` on.

    Each worker makes only its own rows, in a thread beside the training. Their elements are the
    arrays of a `Batch`.
    """

    def pipeline(context):
        workers = context.num_input_pipelines
        replicas = context.num_replicas_in_sync // workers
        first = context.input_pipeline_id * replicas

        def generate():
            for step in range(first_step, steps):
                for replica in range(first, first + replicas):
                    part = batches.part(step, replica, workers * replicas)
                    yield tuple(getattr(part, field.name) for field in dataclasses.fields(part))

        empty = dataclasses.astuple(batches_lib.Batch.empty(0, 1))
        signature = tuple(tf.TensorSpec([None] * array.ndim, array.dtype) for array in empty)
        data = tf.data.Dataset.from_generator(generate, output_signature=signature)
        options = tf.data.Options()
        # A thread or two for the input is enough; the others belong to the model.
        options.threading.private_threadpool_size = 1
        return data.with_options(options).prefetch(4 * replicas)

    return strategy.distribute_datasets_from_function(pipeline)


def run_training(
    trainer: Trainer, batches: AnyBatches, output: pathlib.Path, key: str
) -> dict[str, Any] | None:
    """Trains from the trainer's step to the end, with checkpoints and a log.

    Args:
        trainer: Fresh or restored; its options say how long, and how often what is written.
        batches: Of the same options.
        output: Folder of the checkpoint and the log.
        key: Settings, for `Trainer.save`.

    Returns:
        Figures of the last progress line, or None if no step was left.
    """
    options, chief = trainer.options, cluster.is_chief(trainer.strategy)
    end = min(options.steps, options.stop_after or options.steps)
    figures: dict[str, Any] | None = None
    sums, tokens, began = [], 0, time.monotonic()
    data = iter(dataset(batches, trainer.strategy, trainer.step, end))
    while trainer.step < end:
        step = trainer.step
        sums.append(trainer.train(next(data), batches.rows(step)))
        tokens += batches.rows(step) * batches.length(step)
        if trainer.step % options.log_steps == 0 or trainer.step == end:
            rate = tokens / (time.monotonic() - began)
            totals = np.sum([s.numpy() for s in sums], axis=0)
            figures = _figures(dict(zip(model_lib.SUMS, totals.tolist(), strict=True)))
            figures = {"step": trainer.step, **figures}
            figures |= {"learning_rate": options.rate(step), "tokens_per_second": rate}
            if chief:
                _report(figures, options.steps, output)
            sums, tokens, began = [], 0, time.monotonic()
        if chief and (trainer.step % options.checkpoint_steps == 0 or trainer.step == end):
            trainer.save(output / CHECKPOINT, key)
    return figures


def _figures(sums: dict[str, float]) -> dict[str, float | None]:
    """Returns means, None where nothing was counted."""

    def mean(total, count):
        return sums[total] / sums[count] if sums[count] else None

    return {
        "masked_loss": mean("masked_loss", "masked"),
        "masked_accuracy": mean("masked_hits", "masked"),
        "next_sentence_accuracy": mean("pair_hits", "pairs"),
        "words_loss": mean("words_loss", "bags"),
        "cosine": mean("cosine", "embedded"),
        "closeness_error": mean("closeness_error", "close_pairs"),
    }


def _report(figures: dict[str, Any], steps: int, output: pathlib.Path) -> None:
    """Prints a progress line and adds it to the log."""
    shown = [f"step {figures['step']}/{steps}"]
    for name, form, factor in (
        ("masked_loss", "masked loss {:.3f}", 1),
        ("masked_accuracy", "accuracy {:.1f} %", 100),
        ("next_sentence_accuracy", "next sentence {:.1f} %", 100),
        ("words_loss", "words {:.3f}", 1),
        ("cosine", "cosine {:.3f}", 1),
        ("closeness_error", "closeness {:.4f}", 1),
        ("tokens_per_second", "{:,.0f} tokens/s", 1),
    ):
        if figures[name] is not None:
            shown.append(form.format(factor * figures[name]))
    print("  ".join(shown), flush=True)
    try:
        with open(output / LOG, "a", encoding="utf-8") as log:
            log.write(json.dumps(figures) + "\n")
    except OSError as error:
        raise errors.FileError(f"{output / LOG}: cannot be written ({error.strerror})") from error
