"""Trains an encoder: near texts get near rows, from which a device learns labels of its own."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from embbert_tf import errors
from embbert_tf.data import files
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.data.files import PathLike
from embbert_tf.pretraining import embeddings as embeddings_lib
from embbert_tf.storage import backbone_folder, run_folder
from embbert_tf.storage.run_folder import Run
from embbert_tf.training import embedding_targets, metrics
from embbert_tf.training import options as options_lib
from embbert_tf.training.options import EncoderOptions
from embbert_tf.training.trainer import CHECKPOINT, check_same

TASK = "encoder"


def train_encoder(
    embeddings: PathLike, *, output: PathLike, options: EncoderOptions | None = None
) -> Run:
    """Trains backbone and head until the logits of a text are a short form of its embedding.

    One text of twenty is held out and measured. A training that was killed goes on after its last
    epoch when it is called again; one that has finished is left as it is.

    Example:
    ```text
    import embbert_tf

    options = embbert_tf.EncoderOptions(init="zoo/backbone", epochs=3)
    run = embbert_tf.train_encoder(
        "embeddings.safetensors", output="build/encoder", options=options
    )
    print(run.metrics["fp32"]["valid"]["cosine"])
    ```

    Args:
        embeddings: Texts with a sentence encoder's embeddings, as `embbert_tf.embed_texts` writes
            them.
        output: The run folder; `embbert_tf.storage.run_folder` says what it gets.
        options: All that can be chosen; None for the defaults.

    Returns:
        The run, as `load_run(output)` reads it.

    Raises:
        EmbBertError: An input cannot be used, or `output` holds another run or cannot be written.
    """
    options = options or EncoderOptions()
    path = pathlib.Path(output)
    files.check_folder(path)
    rows = read_rows(embeddings)
    settings = _settings(embeddings, options)
    known = check_same(path, settings)
    if known and run_folder.is_trained(path) and (path / run_folder.METRICS).exists():
        print(f"{path}: this training has finished already; nothing to do", flush=True)
        return run_folder.load_run(path)
    start = backbone_folder.load_embbert(options.init)
    _write_folder(path, settings, start)
    targets = embedding_targets.targets(rows.embeddings, options.width, options.neighbours)
    train, valid = rows.parts(start, targets)
    model = _new_model(start, train, resumes=(path / CHECKPOINT).exists(), options=options)
    history = _fit(path, model, train, valid, options)
    files.write_atomic(path / run_folder.FP32, lambda temporary: model.save(temporary))
    measured = {"fp32": metrics.measure_parts(model, history, {"valid": valid}, ())}
    files.write_json(path / run_folder.METRICS, measured)
    metrics.show(measured["fp32"])
    (path / CHECKPOINT).unlink(missing_ok=True)
    return run_folder.load_run(path)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Texts with what a sentence encoder says of them.

    Attributes:
        texts: N texts.
        embeddings: (N, d), of length 1.
    """

    texts: list[str]
    embeddings: np.ndarray

    def parts(self, model: Any, targets: np.ndarray) -> tuple[tuple[list, np.ndarray], ...]:
        """Returns (token ids, targets) of the texts to train on, and of those held out.

        Args:
            model: A backbone or run, with `tokenizer` and `config`.
            targets: A row a text.
        """
        ids = [
            tokenizer_lib.encode(model.tokenizer, text, None, model.config.max_length)
            for text in self.texts
        ]
        measuring = np.array([embedding_targets.held_out(text) for text in self.texts])
        return tuple(
            ([ids[i] for i in np.flatnonzero(part)], targets[part])
            for part in (~measuring, measuring)
        )


def read_rows(path: PathLike) -> Rows:
    """Reads texts and embeddings.

    Raises:
        EncoderError: The file cannot be used.
        DataError: There are too few texts to hold some out.
    """
    read = embeddings_lib.read_embeddings(path)
    measuring = sum(map(embedding_targets.held_out, read.texts))
    if not 0 < measuring < len(read.texts):
        raise errors.DataError(
            f"{path}: {len(read.texts)} texts are too few to hold some out; take a hundred or more"
        )
    return Rows(list(read.texts), read.rows)


def _settings(embeddings: PathLike, options: EncoderOptions) -> dict[str, Any]:
    """Returns what `config.json` says of the training."""
    digests = {
        "embeddings": files.sha256(embeddings),
        "init": files.sha256(backbone_folder.weights_path(options.init)),
    }
    values = options_lib.recorded(options, digests)
    return {"task": TASK, "pair": False, "width": options.width, "training": values}


def _write_folder(
    path: pathlib.Path, settings: dict[str, Any], start: backbone_folder.Backbone
) -> None:
    """Writes what the run folder needs before the first step; `config.json` last."""
    if (path / run_folder.CONFIG).exists():
        return
    files.make_folder(path)
    files.copy(start.path / run_folder.TOKENIZER, path / run_folder.TOKENIZER)
    run_folder.write_labels(path / run_folder.LABELS, [])
    config = dataclasses.replace(start.config, dropout=0.0)
    files.write_json(path / run_folder.CONFIG, {"config": config.to_dict(), **settings})


def _new_model(
    start: backbone_folder.Backbone,
    train: tuple[list[list[int]], np.ndarray],
    resumes: bool,
    options: EncoderOptions,
) -> Any:
    """Returns the model before its first step: a head that fits the backbone's rows as they are."""
    from tensorflow import keras

    from embbert_tf.data import batches
    from embbert_tf.model.classifier import EmbBertClassifier
    from embbert_tf.training import initial_head

    keras.utils.set_random_seed(options.seed)
    # A teacher with many texts leaves nothing to regularise.
    config: Any = dataclasses.replace(start.config, dropout=0.0)
    model: Any = EmbBertClassifier(config, options.width, dropout=0.0)
    model.backbone.set_weights(start.model.get_weights())
    if not resumes:  # Else the checkpoint brings it.
        rows = batches.predict(initial_head.first_rows(model), train[0])
        model.head.set_weights(initial_head.least_squares(rows, train[1]))
    return model


def _fit(
    path: pathlib.Path,
    model: Any,
    train: tuple[list[list[int]], np.ndarray],
    valid: tuple[list[list[int]], np.ndarray],
    options: EncoderOptions,
) -> list[dict[str, Any]]:
    """Trains; returns the history."""
    from embbert_tf.training import fit

    print(
        f"{len(train[0])} texts to train on, {len(valid[0])} to measure; "
        f"{model.count_params():,} parameters",
        flush=True,
    )
    settings = fit.Settings(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        token_dropout=options.token_dropout,
        vocab_size=model.config.vocab_size,
        seed=options.seed,
        ema=options.ema,
        keep="last",
        relations=options.relations,
    )
    checkpoint = path / CHECKPOINT
    return fit.fit(model, train, valid, settings, checkpoint=checkpoint, label="train", labels=())
