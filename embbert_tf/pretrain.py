"""Pre-trains a backbone on plain text: masked tokens, and whether one text follows another.

    python -m embbert_tf.pretrain --input=corpus.txt.gz,more.txt --output=build/backbone

The result is a backbone folder for `train --init`. A run that was stopped, killed even, goes on
from its last checkpoint when the same command is given again, to the very weights of an
uninterrupted run. On several machines, start the same command on each, with `TF_CONFIG` as
TensorFlow's MultiWorkerMirroredStrategy has it and `--output` on a shared file system; if a worker
dies, the others wait at the last checkpoint until it is started again.
"""

import dataclasses
import json
import os
import pathlib
import sys
import time
import zipfile

import numpy as np
import tensorflow as tf
from absl import app, flags
from tensorflow import keras

from embbert_tf import backbone as backbone_lib
from embbert_tf import backbone_run, corpus
from embbert_tf import run as run_lib
from embbert_tf import tokenizer as tokenizer_lib
from embbert_tf.config import PRESETS, EmbBertConfig

CHECKPOINT = "pretrain-checkpoint.npz"
LOG = "pretrain.log"
# Errors by which a collective operation tells that another worker is gone.
_PEER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
_RESTARTS = "EMBBERT_PRETRAIN_RESTARTS"
_MAX_RESTARTS = 100


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


@keras.utils.register_keras_serializable(package="embbert_tf")
class EmbBertPretrainer(keras.Model):
    """Backbone with the two heads of pre-training.

    Masked tokens: hidden·W + b at the masked positions alone, W (D, V). Next sentence: row 0·w + b.

    Example:
    ```python
    model = EmbBertPretrainer(PRESETS["test"])
    tokens, follows = model((ids, positions))  # (B, P, V), (B,)
    ```

    Args:
        config: An `EmbBertConfig`, or the dictionary of one. Its dropout is left out here: a model
            this small underfits its corpus, and without it a resumed run needs no random state.
        **kwargs: Of `keras.Model`.

    Call arguments:
        inputs: ids int32 (B, n), and masked positions int32 (B, P).

    Returns:
        Logits of the masked tokens, float32 (B, P, V), and of "follows", float32 (B,).
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = EmbBertConfig.from_dict(config)
        self.config = config
        self.backbone = backbone_lib.EmbBertBackbone(
            dataclasses.replace(config, dropout=0.0), name="backbone"
        )
        self.masked_token = keras.layers.Dense(
            config.vocab_size,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="masked_token",
        )
        self.next_sentence = keras.layers.Dense(1, name="next_sentence")

    def call(self, inputs):
        """Applies backbone and heads."""
        ids, positions = inputs
        hidden = self.backbone(ids)
        masked = tf.gather(hidden, positions, batch_dims=1)
        return self.masked_token(masked), self.next_sentence(hidden[:, 0])[:, 0]

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"name": self.name, "config": self.config.to_dict()}


def losses(model, batch, rows):
    """Computes what a batch, or a replica's share of it, adds to the global batch's figures.

    Args:
        model: `EmbBertPretrainer`.
        batch: The six tensors of `corpus.Batch`.
        rows: Rows of the global batch, a scalar.

    Returns:
        The loss's share, and float32 (5,): sums of the masked tokens' cross-entropy, of those
        guessed right, of all masked tokens, of pairs guessed right, and of all pairs.
    """
    ids, positions, labels, weights, follows, is_pair = batch
    tokens, following = model((ids, positions))
    token_loss = weights * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tokens)
    pair_loss = is_pair * tf.nn.sigmoid_cross_entropy_with_logits(follows, following)
    # Divided by what is the same on every replica: the shares then add up to the same loss
    # however the batch was split.
    rows = tf.cast(rows, tf.float32)
    places = tf.cast(tf.shape(positions)[1], tf.float32)
    loss = tf.reduce_sum(token_loss) / (rows * places) + tf.reduce_sum(pair_loss) / rows
    token_hits = weights * tf.cast(
        tf.equal(tf.argmax(tokens, axis=-1, output_type=tf.int32), labels), tf.float32
    )
    pair_hits = is_pair * tf.cast(tf.equal(following > 0, follows > 0.5), tf.float32)
    sums = tf.stack(
        [
            tf.reduce_sum(token_loss),
            tf.reduce_sum(token_hits),
            tf.reduce_sum(weights),
            tf.reduce_sum(pair_hits),
            tf.reduce_sum(is_pair),
        ]
    )
    return loss, sums


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
            self.model = EmbBertPretrainer(config)
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
                loss, sums = losses(self.model, batch, rows)
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
        run_lib.write_atomic(path, lambda temporary: np.savez(temporary, **arrays))

    def restore(self, path, key):
        """Reads what `save` wrote.

        Raises:
            RunError: if the checkpoint is of other settings, or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if str(arrays["key"]) != key:
                    raise run_lib.RunError(
                        f"{path}: the checkpoint was made with other settings; give the same flags "
                        "as before, or another --output"
                    )
                for index, variable in enumerate(self._variables):
                    variable.assign(arrays[f"variable_{index}"])
                self.step = int(arrays["step"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, run_lib.RunError):
                raise
            raise run_lib.RunError(
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


def _tokenizer_path(output, chief, values):
    """Returns the tokenizer's file, training one on the texts if need be."""
    if values.tokenizer:
        return pathlib.Path(values.tokenizer)
    if values.init:
        return pathlib.Path(values.init) / run_lib.TOKENIZER
    path = output / run_lib.TOKENIZER
    if not path.exists():
        if not chief:
            raise run_lib.RunError(
                "several workers need one tokenizer; pass --tokenizer=tokenizer.json"
            )
        size = values.vocab_size or PRESETS[values.preset].vocab_size
        tokenizer = tokenizer_lib.train_tokenizer(corpus.read_documents(values.input), size)
        run_lib.write_atomic(path, lambda temporary: tokenizer.save(str(temporary)))
    return path


def _pretrain(values):
    # Determinism wants a seed before anything is drawn, even initial values soon overwritten.
    keras.utils.set_random_seed(values.seed)
    strategy = make_strategy(values.replicas)
    chief = is_chief(strategy)
    output = pathlib.Path(values.output)
    output.mkdir(parents=True, exist_ok=True)
    tokenizer_path = _tokenizer_path(output, chief, values)
    tokenizer = tokenizer_lib.load_tokenizer(tokenizer_path)
    try:
        lengths = tuple(int(length) for length in values.lengths)
    except ValueError as error:
        raise run_lib.RunError(f"--lengths={','.join(values.lengths)}: not numbers") from error
    start = backbone_run.load_backbone(values.init) if values.init else None
    config = start.config if start else PRESETS[values.preset]
    if values.vocab_size:
        config = dataclasses.replace(config, vocab_size=values.vocab_size)
    if max(lengths) > config.max_length:
        raise run_lib.RunError(
            f"--lengths: {max(lengths)} is above the model's longest, {config.max_length}"
        )
    backbone_run.check_tokenizer(tokenizer_path, config)
    schedule = Schedule(values.steps, values.learning_rate, values.warm_up, values.weight_decay)
    options = corpus.BatchOptions(
        values.batch_tokens, lengths, values.whole_words, values.next_sentence, values.seed
    )
    # Each worker keeps a cache of its own: they may not share a disk for scratch.
    resolver = strategy.cluster_resolver
    cache = output / "cache" / (f"worker{resolver.task_id}" if not chief else "")
    text = corpus.load_or_tokenize(values.input, tokenizer, cache)
    batches = corpus.Batches(text, tokenizer.get_vocab_size(), schedule.steps, options)
    trainer = Trainer(config, schedule, strategy, values.seed)
    if start:
        trainer.model.backbone.set_weights(start.model.get_weights())
    key = json.dumps(
        {
            "config": config.to_dict(),
            "schedule": dataclasses.asdict(schedule),
            "options": dataclasses.asdict(options),
            "tokens": len(text.ids),
        }
    )
    if (output / CHECKPOINT).exists():
        trainer.restore(output / CHECKPOINT, key)
    if chief:
        print(
            f"{len(text.ids):,} tokens of text, {trainer.model.backbone.count_params():,} "
            f"parameters, {strategy.num_replicas_in_sync} replicas, from step {trainer.step}",
            flush=True,
        )
    figures = run_training(
        trainer,
        batches,
        output,
        key,
        values.checkpoint_steps,
        values.log_steps,
        values.stop_after,
    )
    if chief and trainer.step == schedule.steps:
        model = backbone_lib.EmbBertBackbone(config)
        model.set_weights(trainer.model.backbone.get_weights())
        origin = {"pretrained": {"steps": trainer.step, "batch_tokens": options.tokens}}
        if figures:
            origin["pretrained"]["masked_loss"] = figures["masked_loss"]
        backbone_run.save_backbone(output, model, tokenizer_path, origin)
        print(f"{output}: backbone written", flush=True)


def define_flags(values=flags.FLAGS):
    """Defines the flags. Not on import: other commands have flags of the same names."""
    flags.DEFINE_list(
        "input", None, "Text files, plain or .gz, a document a line.", flag_values=values
    )
    flags.DEFINE_string(
        "output", None, "Backbone folder to write; holds checkpoints too.", flag_values=values
    )
    flags.DEFINE_string(
        "tokenizer",
        None,
        "tokenizer.json to use; by default one is trained on the texts.",
        flag_values=values,
    )
    flags.DEFINE_string("init", None, "Backbone or run folder to start from.", flag_values=values)
    flags.DEFINE_enum(
        "preset", "embbert", sorted(PRESETS), "Sizes of the model.", flag_values=values
    )
    flags.DEFINE_integer(
        "vocab_size", None, "Tokens of the vocabulary.", lower_bound=6, flag_values=values
    )
    flags.DEFINE_integer("steps", 20_000, "Optimizer steps.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer(
        "batch_tokens", 8192, "Tokens in a global batch.", lower_bound=8, flag_values=values
    )
    flags.DEFINE_list(
        "lengths", ["64", "128"], "Sequence lengths to draw from.", flag_values=values
    )
    flags.DEFINE_float(
        "learning_rate", 2e-3, "Highest learning rate.", lower_bound=0.0, flag_values=values
    )
    flags.DEFINE_integer(
        "warm_up", 400, "Steps of growing rate.", lower_bound=0, flag_values=values
    )
    flags.DEFINE_float(
        "weight_decay", 0.01, "AdamW's weight decay.", lower_bound=0.0, flag_values=values
    )
    flags.DEFINE_bool(
        "whole_words", False, "Mask all tokens of a word or none.", flag_values=values
    )
    flags.DEFINE_float(
        "next_sentence",
        0.5,
        "Share of pairs, for next-sentence prediction.",
        0.0,
        1.0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seed", 0, "Seed of weights and batches.", lower_bound=0, flag_values=values
    )
    flags.DEFINE_integer(
        "checkpoint_steps", 200, "Steps between checkpoints.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "log_steps", 50, "Steps between progress lines.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "stop_after",
        None,
        "Write a checkpoint and stop at this step.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "replicas",
        0,
        "Split this machine's CPU into replicas; 0 uses its GPUs, or the CPU whole.",
        flag_values=values,
    )
    flags.mark_flags_as_required(["input", "output"], flag_values=values)


def main(_, values=flags.FLAGS):
    """Command line."""
    tf.get_logger().setLevel("ERROR")
    # Without it threads add up the token table's gradient in any order, and a resumed run differs
    # from an uninterrupted one in the last bit.
    tf.config.experimental.enable_op_determinism()
    try:
        _pretrain(values)
    except (
        corpus.CorpusError,
        run_lib.RunError,
        tokenizer_lib.TokenizerError,
        OSError,
    ) as error:
        print(f"pretrain: {error}", file=sys.stderr)
        sys.exit(1)
    except _PEER_LOST as error:
        restarts = int(os.environ.get(_RESTARTS, "0"))
        if "TF_CONFIG" not in os.environ or restarts == _MAX_RESTARTS:
            raise
        reason = str(error).split("\n")[0][:200]
        print(f"pretrain: a worker is gone ({reason}); starting again", file=sys.stderr, flush=True)
        # TensorFlow cannot take a worker back into a running cluster: start afresh, wait for it,
        # and go on from the checkpoint.
        os.environ[_RESTARTS] = str(restarts + 1)
        os.execv(sys.executable, [sys.executable, "-m", "embbert_tf.pretrain", *sys.argv[1:]])


if __name__ == "__main__":
    define_flags()
    app.run(main)
