"""Trains a classifier or a regression from CSV files into a run folder."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import tokenizers

from embbert_tf import errors
from embbert_tf.baselines import any_model
from embbert_tf.baselines.any_model import AnyConfig
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.data import encoding, files
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.data.examples import Example
from embbert_tf.data.files import PathLike
from embbert_tf.storage import backbone_folder, run_folder
from embbert_tf.storage.run_folder import Run
from embbert_tf.training import distillation, metrics, train_rows
from embbert_tf.training import options as options_lib
from embbert_tf.training.options import TrainOptions
from embbert_tf.training.score_scale import ScoreScale
from embbert_tf.training.train_rows import Rows

CHECKPOINT = "checkpoint.npz"


def train(
    train: PathLike,
    *,
    output: PathLike,
    valid: PathLike | None = None,
    test: PathLike | None = None,
    options: TrainOptions | None = None,
) -> Run:
    """Trains a classifier, or a regression, on a CSV file.

    Every input is read whole and checked before the first step and before anything is written. A
    training that was killed goes on after its last epoch when it is called again; one that has
    finished is left as it is.

    Example:
    ```python
    import embbert_tf

    options = embbert_tf.TrainOptions(preset="test", epochs=1)
    run = embbert_tf.train("train.csv", test="test.csv", output="build/run", options=options)
    print(run.metrics["fp32"]["test"]["accuracy"])
    ```

    Args:
        train: Training CSV: `text,label` or `text,text_pair,label`.
        output: The run folder; `embbert_tf.storage.run_folder` says what it gets.
        valid: Validation CSV; without it a stratified tenth of `train` is held out.
        test: Test CSV; only measured, never trained or chosen on.
        options: All that can be chosen; None for the defaults.

    Returns:
        The run, as `load_run(output)` reads it.

    Raises:
        EmbBertError: An input cannot be used, or `output` holds another run or cannot be written.
    """
    options = options or TrainOptions()
    path = pathlib.Path(output)
    files.check_folder(path)
    data = train_rows.read(train, valid, test, options)
    options = options_lib.with_kept(options, len(data.valid))
    start = _start_of(options)
    settings = _settings(train, valid, data.pair, options)
    known = check_same(path, settings)
    if known and run_folder.is_trained(path) and (path / run_folder.METRICS).exists():
        print(f"{path}: this training has finished already; nothing to do", flush=True)
        return run_folder.load_run(path)
    initial = _initial_model(options)
    config, tokenizer = _write_folder(path, settings, start, data, options)
    model, scale = _new_model(config, initial, data, options)
    new_head = initial is not None and not _keeps_head(initial, data, options)
    history, valid_ids = _fit(path, model, scale, tokenizer, data, options, new_head)
    scale.restore_head(model.head)
    files.write_atomic(path / run_folder.FP32, lambda temporary: model.save(temporary))
    measured = _measure(path, model, history, valid_ids, tokenizer, data)
    (path / CHECKPOINT).unlink(missing_ok=True)
    return Run(
        path, config, options.task, data.pair, data.labels, tokenizer, model, metrics=measured
    )


def default_epochs(texts: int, batch_size: int, pretrained: bool = False) -> int:
    """Returns a number of epochs: little data has to be seen more often.

    Args:
        texts: Rows to train on.
        batch_size: Of them a step.
        pretrained: Whether the training starts from a run or a backbone. It then makes about 1,000
            steps, within 3 to 40 epochs, else 2,500 within 6 to 40.
    """
    steps, least = (1000, 3) if pretrained else (2500, 6)
    return min(max(-(-steps * batch_size // texts), least), 40)


# ---- What it starts from -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Start:
    """Sizes of the model, and the tokenizer file that it takes over; None to train one."""

    config: AnyConfig
    tokenizer: pathlib.Path | None


def _start_of(options: TrainOptions) -> _Start:
    """Reads the small files of what the training starts from.

    Raises:
        RunError: `init` is no run or backbone folder, or its parts do not belong together.
        TokenizerError: The tokenizer cannot be used.
    """
    if options.init:
        config = run_folder.read_config(options.init)
        source = pathlib.Path(options.init) / run_folder.TOKENIZER
        backbone_folder.check_tokenizer(source, config)
        if not backbone_folder.weights_path(options.init).exists():
            raise errors.RunError(f"{options.init}: no weights to start from; its training has to "
                                  "finish first")  # fmt: skip
        return _Start(dataclasses.replace(config, dropout=options.dropout), source)
    config = any_model.new_config(options.architecture, options.preset)
    config = dataclasses.replace(config, dropout=options.dropout)
    if isinstance(config, BaselineConfig):
        config = dataclasses.replace(config, attend_to_padding=options.attend_to_padding)
    if options.tokenizer:
        size = tokenizer_lib.load_tokenizer(options.tokenizer).get_vocab_size()
        return _Start(dataclasses.replace(config, vocab_size=size), pathlib.Path(options.tokenizer))
    size = options.vocab_size or config.vocab_size
    tokenizer_lib.check_vocab_size(size)
    return _Start(dataclasses.replace(config, vocab_size=size), None)


def _initial_model(options: TrainOptions) -> Any:
    """Returns the run or backbone to start from, whole, or None.

    Raises:
        RunError: It cannot be loaded.
    """
    if not options.init:
        return None
    if run_folder.read_settings(options.init).get("task") == backbone_folder.TASK:
        return backbone_folder.load_backbone(options.init)
    return run_folder.load_run(options.init)


def _new_model(
    config: AnyConfig, initial: Any, data: Rows, options: TrainOptions
) -> tuple[Any, ScoreScale]:
    """Returns the classifier before its first step, and the scale that it learns in."""
    from tensorflow import keras

    keras.utils.set_random_seed(options.seed)
    scale = ScoreScale()
    if not data.labels:
        scale = ScoreScale.of(data.targets["train"], "train")
    model = any_model.new_classifier(config, max(len(data.labels), 1), options.dropout)
    if isinstance(initial, Run):
        model.backbone.set_weights(initial.model.backbone.get_weights())
        if _keeps_head(initial, data, options):
            model.head.set_weights(initial.model.head.get_weights())
            scale.standardize_head(model.head)
            print(f"{options.init}: its labels are the same, so its head is kept", flush=True)
    elif initial is not None:
        model.backbone.set_weights(initial.model.get_weights())
    return model, scale


def _keeps_head(initial: Any, data: Rows, options: TrainOptions) -> bool:
    """Whether the training starts from a run with the same task and labels."""
    same = (options.task, data.labels)
    return isinstance(initial, Run) and (initial.task, initial.labels) == same


# ---- The run folder ----------------------------------------------------------------------------


def _settings(
    train: PathLike, valid: PathLike | None, pair: bool, options: TrainOptions
) -> dict[str, Any]:
    """Returns what `config.json` says of the training; `_write_folder` adds the sizes."""
    tokenizer: PathLike | None = options.tokenizer
    digests: dict[str, Any] = {"train": files.sha256(train)}
    digests["valid"] = None if valid is None else files.sha256(valid)
    if options.init:
        tokenizer = pathlib.Path(options.init) / run_folder.TOKENIZER
        digests["init"] = files.sha256(backbone_folder.weights_path(options.init))
    digests["tokenizer"] = None if tokenizer is None else files.sha256(tokenizer)
    if options.soft_labels:
        digests["soft_labels"] = [files.sha256(options.soft_labels)]
    values = options_lib.recorded(options, digests)
    return {"task": options.task, "pair": pair, "training": values}


def check_same(path: PathLike, settings: dict[str, Any]) -> bool:
    """Whether the folder holds a run of these settings; False if it holds none.

    Args:
        path: The folder.
        settings: "task", "pair" and "training", as `config.json` has them.

    Raises:
        RunError: It holds a run of other settings.
    """
    path = pathlib.Path(path)
    if not (path / run_folder.CONFIG).exists():
        return False
    old = run_folder.read_settings(path)
    changed = options_lib.differences(old.get("training", {}), settings["training"])
    for key in ("task", "pair"):
        changed += [key] if old.get(key) != settings[key] and key not in changed else []
    if changed:
        raise errors.RunError(
            f"{path}: holds a run with other {', '.join(changed)}; take another output folder, or "
            "delete this one to train anew"
        )
    return True


def _write_folder(
    path: pathlib.Path, settings: dict[str, Any], start: _Start, data: Rows, options: TrainOptions
) -> tuple[AnyConfig, tokenizers.Tokenizer]:
    """Writes what the run folder needs before the first step; `config.json` last.

    Returns:
        Sizes of the model, and its tokenizer.
    """
    target = path / run_folder.TOKENIZER
    if (path / run_folder.CONFIG).exists():  # It is resumed.
        tokenizer = tokenizer_lib.load_tokenizer(target)
    elif start.tokenizer:
        files.copy(start.tokenizer, files.make_folder(path) / run_folder.TOKENIZER)
        tokenizer = tokenizer_lib.load_tokenizer(target)
    else:
        texts = (t for e in data.train for t in (e.text, e.text_pair) if t is not None)
        tokenizer = tokenizer_lib.train_tokenizer(texts, start.config.vocab_size)
        files.make_folder(path)
        files.write_atomic(target, lambda temporary: tokenizer.save(str(temporary)))
    config = start.config
    if not options.init:  # Few texts have fewer tokens than asked for.
        config = dataclasses.replace(config, vocab_size=tokenizer.get_vocab_size())
    run_folder.write_labels(path / run_folder.LABELS, data.labels)
    examples_lib.write_csv(path / examples_lib.VALID_CSV, data.valid)
    files.write_json(path / run_folder.CONFIG, {"config": config.to_dict(), **settings})
    return config, tokenizer


# ---- The training ------------------------------------------------------------------------------


def _fit(
    path: pathlib.Path,
    model: Any,
    scale: ScoreScale,
    tokenizer: tokenizers.Tokenizer,
    data: Rows,
    options: TrainOptions,
    new_head: bool,
) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Trains in standard units; returns the history and the token ids of the validation rows."""
    from embbert_tf.training import fit, initial_head

    def targets(name: str) -> np.ndarray:
        return data.targets[name] if data.labels else scale.standard(data.targets[name])

    def encode(rows: list[Example]) -> list[list[int]]:
        return encoding.encode_all(tokenizer, rows, data.pair, model.config.max_length)

    train, valid = (encode(data.train), targets("train")), (encode(data.valid), targets("valid"))
    if data.labels and new_head:
        initial_head.set_head(model, train[0], train[1], options.seed)
    teaching = None
    if data.taught is not None:
        taught = data.taught if data.labels else scale.standard(data.taught)
        teaching = distillation.Teaching(taught, options.teacher_weight, options.temperature)
        train = distillation.joined(train, encode(data.more), data.labels)
    lengths = [len(ids) for ids in train[0]]
    unlabelled = f" and {len(data.more)} without a label" if data.more else ""
    print(
        f"{len(data.train)} texts to train on{unlabelled}, {len(data.valid)} to validate on, "
        f"{np.mean(lengths):.1f} tokens on average, {max(lengths)} at most; "
        f"{model.count_params():,} parameters",
        flush=True,
    )
    history = fit.fit(
        model,
        train,
        valid,
        fit.Settings(
            epochs=options.epochs
            or default_epochs(len(lengths), options.batch_size, bool(options.init)),
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            label_smoothing=options.label_smoothing,
            token_dropout=options.token_dropout,
            vocab_size=model.config.vocab_size,
            patience=options.patience,
            seed=options.seed,
            ema=options.ema,
            keep=options.keep,
        ),
        checkpoint=path / CHECKPOINT,
        label="train",
        labels=data.labels,
        teaching=teaching,
    )
    return history, valid[0]


def _measure(
    path: pathlib.Path,
    model: Any,
    history: list[dict[str, Any]],
    valid_ids: list[list[int]],
    tokenizer: tokenizers.Tokenizer,
    data: Rows,
) -> dict[str, Any]:
    """Writes, prints and returns the metrics of the finished model, in the user's unit."""
    parts = {"valid": (valid_ids, data.targets["valid"])}
    if data.test:
        ids = encoding.encode_all(tokenizer, data.test, data.pair, model.config.max_length)
        parts["test"] = (ids, data.targets["test"])
    measured = metrics.measure_parts(model, history, parts, data.labels)
    files.write_json(path / run_folder.METRICS, {"fp32": measured})
    if data.labels:
        print(metrics.table(measured.get("test", measured["valid"])))
    metrics.show(measured)
    return {"fp32": measured}
