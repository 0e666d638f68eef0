"""The pre-training loop: steps under a distribution strategy, checkpoints, log."""

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
from embbert_tf.data import files
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.pretraining import batches as batches_lib
from embbert_tf.pretraining import cluster
from embbert_tf.pretraining import model as model_lib
from embbert_tf.pretraining.options import PretrainOptions

CHECKPOINT = "pretrain-checkpoint.npz"
LOG = "pretrain.log"
_CLIP = 1.0  # Largest norm of the global batch's gradient.


class Trainer:
    """Model, optimizer and one step of training under a distribution strategy.

    Args:
        config: Sizes of the model.
        options: `steps`, `learning_rate`, `warm_up`, `weight_decay` and `seed`.
        strategy: Which devices work together.

    Attributes:
        model: `EmbBertPretrainer`.
        step: How many steps have been taken.
    """

    def __init__(
        self, config: EmbBertConfig, options: PretrainOptions, strategy: tf.distribute.Strategy
    ):
        self.options = options
        self.strategy = strategy
        self.step = 0
        keras.utils.set_random_seed(options.seed)
        with strategy.scope():
            self.model = model_lib.EmbBertPretrainer(config)
            self.model((tf.zeros([1, 8], tf.int32), tf.zeros([1, 1], tf.int32)))
            self.optimizer = keras.optimizers.AdamW(
                learning_rate=0.0, weight_decay=options.weight_decay, beta_2=0.98, epsilon=1e-8
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
            float32 (5,), the sums of `losses` over the global batch.
        """
        self.optimizer.learning_rate.assign(self.options.rate(self.step))
        sums = self._train(batch, tf.constant(rows, tf.int32))
        self.step += 1
        return sums

    def _train_step(self, batch, rows):
        def replica(batch):
            with tf.GradientTape() as tape:
                loss, sums = model_lib.losses(self.model, batch, rows)
            variables = self.model.trainable_variables
            gradients = [
                tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)
            ]
            context = tf.distribute.get_replica_context()
            # Summed before clipping: the norm is the global batch's.
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients, _ = tf.clip_by_global_norm(gradients, _CLIP)
            self.optimizer.apply_gradients(
                zip(gradients, variables, strict=True), skip_gradients_aggregation=True
            )
            return context.all_reduce(tf.distribute.ReduceOp.SUM, sums)

        return self.strategy.experimental_local_results(self.strategy.run(replica, (batch,)))[0]

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
    batches: batches_lib.Batches, strategy: tf.distribute.Strategy, first_step: int, steps: int
) -> Any:
    """Returns the distributed batches from `first_step` on.

    Each worker makes only its own rows, in a thread beside the training. Their elements are the six
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

        def spec(rank, dtype):
            return tf.TensorSpec([None] * rank, dtype)

        signature = (
            spec(2, tf.int32),
            spec(2, tf.int32),
            spec(2, tf.int32),
            spec(2, tf.float32),
            spec(1, tf.float32),
            spec(1, tf.float32),
        )
        data = tf.data.Dataset.from_generator(generate, output_signature=signature)
        options = tf.data.Options()
        # A thread or two for the input is enough; the others belong to the model.
        options.threading.private_threadpool_size = 1
        return data.with_options(options).prefetch(4 * replicas)

    return strategy.distribute_datasets_from_function(pipeline)


def run_training(
    trainer: Trainer, batches: batches_lib.Batches, output: pathlib.Path, key: str
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
            loss, hits, masked, pair_hits, pairs = np.sum([s.numpy() for s in sums], axis=0)
            rate = tokens / (time.monotonic() - began)
            figures = {
                "step": trainer.step,
                "masked_loss": float(loss / max(masked, 1)),
                "masked_accuracy": float(hits / max(masked, 1)),
                "next_sentence_accuracy": float(pair_hits / pairs) if pairs else None,
                "learning_rate": options.rate(step),
                "tokens_per_second": rate,
            }
            if chief:
                _report(figures, options.steps, output)
            sums, tokens, began = [], 0, time.monotonic()
        if chief and (trainer.step % options.checkpoint_steps == 0 or trainer.step == end):
            trainer.save(output / CHECKPOINT, key)
    return figures


def _report(figures: dict[str, Any], steps: int, output: pathlib.Path) -> None:
    """Prints a progress line and adds it to the log."""
    pair = figures["next_sentence_accuracy"]
    print(
        f"step {figures['step']}/{steps}  masked loss {figures['masked_loss']:.3f}  "
        f"accuracy {100 * figures['masked_accuracy']:.1f} %  "
        + (f"next sentence {100 * pair:.1f} %  " if pair is not None else "")
        + f"{figures['tokens_per_second']:,.0f} tokens/s",
        flush=True,
    )
    try:
        with open(output / LOG, "a", encoding="utf-8") as log:
            log.write(json.dumps(figures) + "\n")
    except OSError as error:
        raise errors.FileError(f"{output / LOG}: cannot be written ({error.strerror})") from error
