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

import tensorflow as tf
from absl import app, flags
from tensorflow import keras

from embbert_tf import errors
from embbert_tf.data import files, plain_text
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.model import backbone
from embbert_tf.model.config import PRESETS
from embbert_tf.pretraining import batches as batches_lib
from embbert_tf.pretraining import corpus
from embbert_tf.pretraining import trainer as trainer_lib
from embbert_tf.storage import backbone_folder, run_folder

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


def _tokenizer_path(output, chief, values):
    """Returns the tokenizer's file, training one on the texts if need be."""
    if values.tokenizer:
        return pathlib.Path(values.tokenizer)
    if values.init:
        return pathlib.Path(values.init) / run_folder.TOKENIZER
    path = output / run_folder.TOKENIZER
    if not path.exists():
        if not chief:
            raise errors.RunError(
                "several workers need one tokenizer; pass --tokenizer=tokenizer.json"
            )
        size = values.vocab_size or PRESETS[values.preset].vocab_size
        tokenizer = tokenizer_lib.train_tokenizer(plain_text.read_documents(values.input), size)
        files.write_atomic(path, lambda temporary: tokenizer.save(str(temporary)))
    return path


def _pretrain(values):
    # Determinism wants a seed before anything is drawn, even initial values soon overwritten.
    keras.utils.set_random_seed(values.seed)
    strategy = trainer_lib.make_strategy(values.replicas)
    chief = trainer_lib.is_chief(strategy)
    output = pathlib.Path(values.output)
    output.mkdir(parents=True, exist_ok=True)
    tokenizer_path = _tokenizer_path(output, chief, values)
    tokenizer = tokenizer_lib.load_tokenizer(tokenizer_path)
    try:
        lengths = tuple(int(length) for length in values.lengths)
    except ValueError as error:
        raise errors.RunError(f"--lengths={','.join(values.lengths)}: not numbers") from error
    start = backbone_folder.load_backbone(values.init) if values.init else None
    config = start.config if start else PRESETS[values.preset]
    if values.vocab_size:
        config = dataclasses.replace(config, vocab_size=values.vocab_size)
    if max(lengths) > config.max_length:
        raise errors.RunError(
            f"--lengths: {max(lengths)} is above the model's longest, {config.max_length}"
        )
    backbone_folder.check_tokenizer(tokenizer_path, config)
    schedule = trainer_lib.Schedule(
        values.steps, values.learning_rate, values.warm_up, values.weight_decay
    )
    options = batches_lib.BatchOptions(
        values.batch_tokens, lengths, values.whole_words, values.next_sentence, values.seed
    )
    # Each worker keeps a cache of its own: they may not share a disk for scratch.
    resolver = strategy.cluster_resolver
    cache = output / "cache" / (f"worker{resolver.task_id}" if not chief else "")
    text = corpus.load_or_tokenize(values.input, tokenizer, cache)
    batches = batches_lib.Batches(text, tokenizer.get_vocab_size(), schedule.steps, options)
    trainer = trainer_lib.Trainer(config, schedule, strategy, values.seed)
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
    if (output / trainer_lib.CHECKPOINT).exists():
        trainer.restore(output / trainer_lib.CHECKPOINT, key)
    if chief:
        print(
            f"{len(text.ids):,} tokens of text, {trainer.model.backbone.count_params():,} "
            f"parameters, {strategy.num_replicas_in_sync} replicas, from step {trainer.step}",
            flush=True,
        )
    figures = trainer_lib.run_training(
        trainer,
        batches,
        output,
        key,
        values.checkpoint_steps,
        values.log_steps,
        values.stop_after,
    )
    if chief and trainer.step == schedule.steps:
        model = backbone.EmbBertBackbone(config)
        model.set_weights(trainer.model.backbone.get_weights())
        origin = {"pretrained": {"steps": trainer.step, "batch_tokens": options.tokens}}
        if figures:
            origin["pretrained"]["masked_loss"] = figures["masked_loss"]
        backbone_folder.save_backbone(output, model, tokenizer_path, origin)
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
        errors.CorpusError,
        errors.RunError,
        errors.TokenizerError,
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
