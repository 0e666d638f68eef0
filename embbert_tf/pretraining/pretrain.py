"""Pre-training on plain text, from files to a backbone folder."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tokenizers
from tensorflow import keras

from embbert_tf import errors
from embbert_tf.baselines import any_model
from embbert_tf.baselines.any_model import AnyConfig
from embbert_tf.data import files, plain_text
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.pretraining import batches as batches_lib
from embbert_tf.pretraining import cluster, corpus, taught_batches
from embbert_tf.pretraining import embeddings as embeddings_lib
from embbert_tf.pretraining import trainer as trainer_lib
from embbert_tf.pretraining.options import PretrainOptions
from embbert_tf.storage import backbone_folder, run_folder


def pretrain(
    inputs: Sequence[files.PathLike],
    *,
    output: files.PathLike,
    tokenizer: files.PathLike | None = None,
    init: files.PathLike | None = None,
    embeddings: files.PathLike | None = None,
    options: PretrainOptions | None = None,
) -> Any:
    """Pre-trains a backbone, or goes on with a pre-training that was stopped.

    A run that was stopped goes on from its last checkpoint to the very weights of an uninterrupted
    one; for this TensorFlow's operations are made deterministic, in the whole process. Several
    machines work together if `TF_CONFIG` says so.

    Args:
        inputs: Text files, plain or `.gz`, a document a line.
        output: Backbone folder to write; holds the checkpoint, a log and the encoded texts, too.
        tokenizer: `tokenizer.json` to use; by default that of `init`, or one is trained.
        init: Backbone or run folder to start from; by default random weights.
        embeddings: File of texts with what a sentence encoder says of them (`embed_texts`), to
            learn from beside the inputs.
        options: How; by default `PretrainOptions()`.

    Returns:
        The `EmbBertBackbone`, or of another architecture the `BaselineBackbone`; None if it
        stopped before its last step, or on a worker that writes no files.

    Raises:
        CorpusError: A text file cannot be read, or there is too little text.
        EncoderError: `embeddings` is no such file, damaged, or of too few texts.
        FileError: `output` cannot be written.
        OptionError: The options do not go with `init`.
        RunError: `init`, the tokenizer or what `output` holds cannot be used.
        TokenizerError: The tokenizer cannot be read.
    """
    options = options or PretrainOptions()
    corpus.check_readable(inputs)
    teacher = embeddings_lib.read_embeddings(embeddings) if embeddings is not None else None
    output = _checked(pathlib.Path(output))
    # Determinism wants a seed before anything is drawn, even initial values soon overwritten.
    keras.utils.set_random_seed(options.seed)
    # Before TensorFlow computes anything: it then takes its devices as they are.
    strategy = cluster.make_strategy(options.replicas)
    start = backbone_folder.load_backbone(init) if init is not None else None
    config = _config(start, options)
    tokenizer = _tokenizer(inputs, output, tokenizer, init, config, cluster.is_chief(strategy))
    vocabulary = tokenizer_lib.load_tokenizer(tokenizer)
    text = corpus.load_or_tokenize(inputs, vocabulary, _cache(output, strategy))
    batches = _batches(text, teacher, vocabulary, options)
    identity: dict[str, Any] = {"config": config.to_dict(), "options": options.identity()}
    identity |= {"tokens": len(text.ids), "embeddings": embeddings and files.sha256(embeddings)}
    size = 0 if teacher is None else teacher.rows.shape[1]
    tf.config.experimental.enable_op_determinism()  # Else a resumed run differs in the last bit.
    trainer = trainer_lib.Trainer(config, options, strategy, size)
    key = _begin(trainer, start, output, identity)
    figures = trainer_lib.run_training(trainer, batches, output, key)
    if not cluster.is_chief(strategy) or trainer.step < options.steps:
        return None
    return _save(output, trainer, tokenizer, figures)


def _batches(
    text: corpus.Corpus,
    teacher: embeddings_lib.Embeddings | None,
    vocabulary: tokenizers.Tokenizer,
    options: PretrainOptions,
) -> trainer_lib.AnyBatches:
    """Returns the batches, those of a teacher where there is one."""
    if teacher is None:
        return batches_lib.Batches(text, vocabulary.get_vocab_size(), options)
    return taught_batches.TaughtBatches(text, teacher, vocabulary, options)


def _checked(output: pathlib.Path) -> pathlib.Path:
    """Returns a folder that can be written and is not of something else.

    Raises:
        FileError: It cannot be written.
        RunError: It holds something else than a pre-training.
    """
    files.check_folder(output)
    if (output / run_folder.CONFIG).exists() and not (output / trainer_lib.CHECKPOINT).exists():
        raise errors.RunError(
            f"{output}: holds a model already ({run_folder.CONFIG}); choose another folder"
        )
    return output


def _config(start: backbone_folder.Backbone | None, options: PretrainOptions) -> AnyConfig:
    """Returns the sizes of the model.

    Raises:
        OptionError: Its sequences are shorter than those of the training, or its vocabulary is
            given twice.
    """
    if start is not None and options.vocab_size is not None:
        raise errors.OptionError("vocab_size does not go with init, whose model has its own")
    config = start.config if start else any_model.new_config(options.architecture, options.preset)
    if options.vocab_size is not None:
        config = dataclasses.replace(config, vocab_size=options.vocab_size)
    longest = max(options.lengths)
    if longest > config.max_length:
        raise errors.OptionError(
            f"lengths: {longest} is above the model's longest, {config.max_length}"
        )
    return config


def _tokenizer(
    inputs: Sequence[files.PathLike],
    output: pathlib.Path,
    tokenizer: files.PathLike | None,
    init: files.PathLike | None,
    config: AnyConfig,
    chief: bool,
) -> pathlib.Path:
    """Returns the tokenizer's file, training one on the texts if need be.

    Raises:
        RunError: It does not fit the model, or none was given to a worker of several.
        TokenizerError: It cannot be read.
    """
    if tokenizer is not None:
        path = pathlib.Path(tokenizer)
    elif init is not None:
        path = pathlib.Path(init) / run_folder.TOKENIZER
    else:
        path = output / run_folder.TOKENIZER
        if not path.exists():
            if not chief:
                raise errors.RunError(
                    "several workers need one tokenizer; pass --tokenizer=tokenizer.json"
                )
            trained = tokenizer_lib.train_tokenizer(
                plain_text.read_documents(inputs), config.vocab_size
            )
            files.make_folder(output)
            files.write_atomic(path, lambda temporary: trained.save(str(temporary)))
    backbone_folder.check_tokenizer(path, config)
    return path


def _cache(output: pathlib.Path, strategy: tf.distribute.Strategy) -> pathlib.Path:
    """Returns the folder of the encoded texts; workers may not share a disk for scratch."""
    worker = cluster.task_id(strategy)
    return output / "cache" / (f"worker{worker}" if worker else "")


def _begin(
    trainer: trainer_lib.Trainer,
    start: backbone_folder.Backbone | None,
    output: pathlib.Path,
    identity: dict[str, Any],
) -> str:
    """Brings a fresh trainer to `start`, or to the checkpoint if there is one; returns its key.

    Raises:
        RunError: The checkpoint is of other settings, or damaged.
    """
    if start is not None:
        trainer.model.backbone.set_weights(start.model.get_weights())
    key = json.dumps(identity)
    if (output / trainer_lib.CHECKPOINT).exists():
        trainer.restore(output / trainer_lib.CHECKPOINT, key)
    if cluster.is_chief(trainer.strategy):
        print(
            f"{identity['tokens']:,} tokens of text, {trainer.model.backbone.count_params():,} "
            f"parameters, {trainer.strategy.num_replicas_in_sync} replicas, from step "
            f"{trainer.step}",
            flush=True,
        )
    return key


def _save(
    output: pathlib.Path,
    trainer: trainer_lib.Trainer,
    tokenizer: pathlib.Path,
    figures: dict | None,
) -> Any:
    """Writes the backbone folder, if it is not there already, and returns the model."""
    model = any_model.new_backbone(trainer.model.config)
    with trainer.strategy.scope(), trainer.averaged():
        model.set_weights(trainer.model.backbone.get_weights())
    if figures is None and (output / run_folder.CONFIG).exists():
        print(f"{output}: this pre-training has finished already; nothing to do", flush=True)
        return model
    about = {"steps": trainer.step, "batch_tokens": trainer.options.batch_tokens}
    if figures is not None:
        about["masked_loss"] = figures["masked_loss"]
    backbone_folder.save_backbone(output, model, tokenizer, {"pretrained": about})
    print(f"{output}: backbone written", flush=True)
    return model
