"""The pre-training loop: strategy, steps, checkpoints, log."""

import dataclasses
import json
import os
import time
import zipfile

import numpy as np
import tensorflow as tf
from tensorflow import keras

from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.pretraining import model as model_lib

CHECKPOINT = "pretrain-checkpoint.npz"
LOG = "pretrain.log"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Learning rate and its neighbours.

    Attributes:
        steps: Length of the training.
        learning_rate: Highest rate.
        warm_up: Steps over which the rate grows from 0; then it falls to 0 linearly.
        weight_decay: AdamW's, on matrices alone.
        clip: Largest norm of the gradient.
    """

    steps: int
    learning_rate: float = 2e-3
    warm_up: int = 400
    weight_decay: float = 0.01
    clip: float = 1.0

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step, from 0."""
        rise = (step + 1) / max(1, self.warm_up)
        fall = (self.steps - step) / max(1, self.steps - self.warm_up)
        return self.learning_rate * min(1.0, rise, fall)


class Trainer:
    """Model, optimizer and one step of training under a distribution strategy.

    Args:
        config: `EmbBertConfig`.
        schedule: `Schedule`.
        strategy: `tf.distribute.Strategy`.
        seed: Of the initial weights.
    """

    def __init__(self, config, schedule, strategy, seed=0):
        self.schedule = schedule
        self.strategy = strategy
        self.step = 0
        keras.utils.set_random_seed(seed)
        with strategy.scope():
            self.model = model_lib.EmbBertPretrainer(config)
            self.model((tf.zeros([1, 8], tf.int32), tf.zeros([1, 1], tf.int32)))
            self.optimizer = keras.optimizers.AdamW(
                learning_rate=0.0, weight_decay=schedule.weight_decay, beta_2=0.98, epsilon=1e-8
            )
            vectors = [v for v in self.model.trainable_variables if len(v.shape) < 2]
            self.optimizer.exclude_from_weight_decay(var_list=vectors)
            self.optimizer.build(self.model.trainable_variables)
        # One graph for each shape: graphs of relaxed shapes round differently, and which of them
        # a step met would depend on where the training was resumed.
        self._train = tf.function(self._train_step)

    def train(self, batch, rows):
        """Takes one step.

        Args:
            batch: Next element of the distributed dataset.
            rows: Rows of the global batch.

        Returns:
            float32 (5,), the sums of `losses` over the global batch.
        """
        self.optimizer.learning_rate.assign(self.schedule.rate(self.step))
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
            gradients, _ = tf.clip_by_global_norm(gradients, self.schedule.clip)
            self.optimizer.apply_gradients(
                zip(gradients, variables, strict=True), skip_gradients_aggregation=True
            )
            return context.all_reduce(tf.distribute.ReduceOp.SUM, sums)

        return self.strategy.experimental_local_results(self.strategy.run(replica, (batch,)))[0]

    def save(self, path, key):
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

    def restore(self, path, key):
        """Reads what `save` wrote.

        Raises:
            RunError: if the checkpoint is of other settings, or damaged.
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
    def _variables(self):
        # The learning rate is among the optimizer's variables; `train` sets it before each step.
        return [*self.model.variables, *self.optimizer.variables]


def dataset(batches, strategy, first_step, steps):
    """Returns the distributed batches from `first_step` on.

    Each worker makes only its own rows, in a thread beside the training.
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


def make_strategy(replicas=0):
    """Chooses the strategy: several machines if TF_CONFIG says so, else this one's devices.

    Args:
        replicas: If above 0, split the CPU into so many replicas instead.
    """
    if json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if replicas:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * replicas
        )
        return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])
    return tf.distribute.MirroredStrategy(
        None if tf.config.list_physical_devices("GPU") else ["CPU:0"]
    )


def run_training(trainer, batches, output, key, checkpoint_steps, log_steps, stop_after=None):
    """Trains from the trainer's step to the end, with checkpoints and a log.

    Args:
        trainer: `Trainer`, fresh or restored.
        batches: `corpus.Batches`.
        output: Folder of the checkpoint and the log.
        key: Settings, for `Trainer.save`.
        checkpoint_steps: Steps between checkpoints.
        log_steps: Steps between progress lines.
        stop_after: Step to stop at with a checkpoint, or None.

    Returns:
        Figures of the last progress line, or None if no step was left.
    """
    chief = is_chief(trainer.strategy)
    end = min(trainer.schedule.steps, stop_after or trainer.schedule.steps)
    figures, sums, tokens, began = None, [], 0, time.monotonic()
    data = iter(dataset(batches, trainer.strategy, trainer.step, end))
    while trainer.step < end:
        step = trainer.step
        sums.append(trainer.train(next(data), batches.rows(step)))
        tokens += batches.rows(step) * batches.length(step)
        if trainer.step % log_steps == 0 or trainer.step == end:
            loss, hits, masked, pair_hits, pairs = np.sum([s.numpy() for s in sums], axis=0)
            rate = tokens / (time.monotonic() - began)
            figures = {
                "step": trainer.step,
                "masked_loss": float(loss / max(masked, 1)),
                "masked_accuracy": float(hits / max(masked, 1)),
                "next_sentence_accuracy": float(pair_hits / pairs) if pairs else None,
                "learning_rate": trainer.schedule.rate(step),
                "tokens_per_second": rate,
            }
            if chief:
                _report(figures, trainer.schedule.steps, output)
            sums, tokens, began = [], 0, time.monotonic()
        if chief and (trainer.step % checkpoint_steps == 0 or trainer.step == end):
            trainer.save(output / CHECKPOINT, key)
    return figures


def _report(figures, steps, output):
    pair = figures["next_sentence_accuracy"]
    print(
        f"step {figures['step']}/{steps}  masked loss {figures['masked_loss']:.3f}  "
        f"accuracy {100 * figures['masked_accuracy']:.1f} %  "
        + (f"next sentence {100 * pair:.1f} %  " if pair is not None else "")
        + f"{figures['tokens_per_second']:,.0f} tokens/s",
        flush=True,
    )
    with open(output / LOG, "a", encoding="utf-8") as log:
        log.write(json.dumps(figures) + "\n")


def is_chief(strategy) -> bool:
    """Returns whether this process writes files: the first worker, or the only process."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_type or resolver.task_id == 0
