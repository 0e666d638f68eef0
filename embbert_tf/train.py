"""Trains an EmbBERT classifier (or regression) on a CSV file.

Example:
  python -m embbert_tf.train --train=train.csv --test=test.csv --output=build/demo/run

Everything goes to the run folder `--output`: `config.json`, `tokenizer.json`, `labels.txt`,
`valid.csv` (what was held out), `fp32.keras`, `metrics.json` and, until it has finished, a
checkpoint. A run that was killed goes on where it was when the same command is given again; one
that has finished is left as it is. Next: `python -m embbert_tf.qat --run=RUN`.
"""

import pathlib
import shutil
import sys

import numpy as np
from absl import app, flags

from embbert_tf import errors
from embbert_tf.data import encoding, files, soft_labels
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.model.config import PRESETS, EmbBertConfig
from embbert_tf.storage import backbone_folder, run_folder
from embbert_tf.training import distillation, metrics

_TRAIN = flags.DEFINE_string(
    "train", None, "Training CSV: text,label or text,text_pair,label.", required=True
)
_VALID = flags.DEFINE_string(
    "valid", None, "Validation CSV; without it a stratified tenth of --train is held out."
)
_TEST = flags.DEFINE_string("test", None, "Test CSV; only measured, never trained or chosen on.")
_OUTPUT = flags.DEFINE_string("output", None, "Run folder.", required=True)
_PRESET = flags.DEFINE_enum("preset", "embbert", sorted(PRESETS), "Size of the model.")
_TASK = flags.DEFINE_enum(
    "task", "classification", ["classification", "regression"], "What the label is."
)
_VOCAB_SIZE = flags.DEFINE_integer(
    "vocab_size", 0, "Tokens of a new tokenizer; 0 takes the preset's.", lower_bound=0
)
_TOKENIZER = flags.DEFINE_string("tokenizer", None, "Use this tokenizer.json, train none.")
_INIT = flags.DEFINE_string(
    "init",
    None,
    "Run folder whose backbone (and tokenizer) to start from, such as zoo/backbone; of a run with "
    "the same task and labels, the head too.",
)
_EPOCHS = flags.DEFINE_integer(
    "epochs", 0, "Epochs at most; 0: as many as make 2,500 steps, within 6..40.", lower_bound=0
)
_PATIENCE = flags.DEFINE_integer(
    "patience", 10, "Stop after this many epochs without improvement.", lower_bound=1
)
_KEEP = flags.DEFINE_enum(
    "keep",
    "best",
    ["best", "last"],
    "Epoch that stays: the best on the validation rows, or the last. With the last nothing is "
    "chosen on those rows: --patience stops nothing, and what they measure is not too good.",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Texts a step.", lower_bound=1)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Peak learning rate.", lower_bound=0)
_WEIGHT_DECAY = flags.DEFINE_float("weight_decay", 0.05, "AdamW's.", lower_bound=0)
_LABEL_SMOOTHING = flags.DEFINE_float("label_smoothing", 0.1, "Share spread over all classes.")
_TOKEN_DROPOUT = flags.DEFINE_float(
    "token_dropout", 0.1, "Share of training tokens that are replaced.", 0, 0.9
)
_DROPOUT = flags.DEFINE_float(
    "dropout", 0.1, "Of attention weights and of the head's input.", 0, 0.9
)
_EMA = flags.DEFINE_float(
    "ema",
    0.0,
    "Decay of an exponential moving average of the weights, which is what is measured and kept; "
    "0: none. About 1 - 10 / (steps of an epoch).",
    0,
    0.9999,
)
_SOFT_LABELS = flags.DEFINE_string(
    "soft_labels",
    None,
    "CSV of a teacher's probabilities: the columns text[,text_pair] and one for each label "
    "(regression: `score`). Texts beside the training texts add to them.",
)
_TEACHER_WEIGHT = flags.DEFINE_float(
    "teacher_weight", 0.5, "Share of the loss that is the teacher's.", 0, 1
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", 2.0, "Softens the probabilities of teacher and student.", 0.1, 100
)
_SEED = flags.DEFINE_integer("seed", 0, "Of initial weights, order and dropout.", lower_bound=0)
_HELD_OUT = 0.1
CHECKPOINT = "checkpoint.npz"
_SAME_RUN = (  # flags that make another model
    "preset",
    "task",
    "vocab_size",
    "epochs",
    "patience",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "label_smoothing",
    "token_dropout",
    "dropout",
    "seed",
)
# Recorded only where they are not at their defaults: older runs do not have them.
_OPTIONS = (
    "keep",
    "ema",
    "teacher_weight",
    "temperature",
)


def default_epochs(texts: int, batch_size: int) -> int:
    """Returns the epochs that make about 2,500 steps: little data has to be seen more often."""
    return min(max(-(-2500 * batch_size // texts), 6), 40)


def _settings(config: EmbBertConfig, pair: bool) -> dict:
    values = {name: flags.FLAGS[name].value for name in _SAME_RUN}
    options = {name: flags.FLAGS[name] for name in _OPTIONS}
    values |= {name: flag.value for name, flag in options.items() if flag.value != flag.default}
    if _SOFT_LABELS.value:
        values["soft_labels_sha256"] = [files.digest(_SOFT_LABELS.value)]
    for name, path in (("train", _TRAIN.value), ("valid", _VALID.value)):
        values[f"{name}_sha256"] = files.digest(path)
    tokenizer = _TOKENIZER.value
    if _INIT.value:
        tokenizer = str(pathlib.Path(_INIT.value) / run_folder.TOKENIZER)
        values["init_sha256"] = files.digest(str(backbone_folder.weights_path(_INIT.value)))
    values["tokenizer_sha256"] = files.digest(tokenizer)
    return {"config": config.to_dict(), "task": _TASK.value, "pair": pair, "training": values}


def check_same(path: pathlib.Path, settings: dict) -> bool:
    """Whether the folder holds a run of these settings; False if it holds none.

    Raises:
        RunError: It holds a run of other settings.
    """
    if not (path / run_folder.CONFIG).exists():
        return False
    old = run_folder.read_settings(path)
    for key in ("training", "task", "pair", "config"):
        if key == "training":
            before, now = old.get(key, {}), settings[key]
            changed = [
                name for name in sorted({*before, *now}) if before.get(name) != now.get(name)
            ]
        else:
            changed = [] if old.get(key) == settings[key] else [key]
        if changed:
            raise errors.RunError(
                f"{path}: holds a run with other {', '.join(changed)}; take another --output, or "
                "delete the folder to train anew"
            )
    return True


def _prepare(path: pathlib.Path):
    """Reads the data and makes what the run folder needs before the first step."""
    examples = list(examples_lib.read_examples(_TRAIN.value))
    labels = []
    if _TASK.value == "classification":
        labels = examples_lib.label_names(examples, _TRAIN.value)
        for sentence in examples_lib.look_alike_labels(e.label for e in examples):
            print(f"train: warning: {sentence}", file=sys.stderr)
    elif len(examples) < 2:
        raise errors.DataError(f"{_TRAIN.value}: too few rows")
    pair = examples[0].text_pair is not None
    if _VALID.value:
        train, valid = examples, list(examples_lib.read_examples(_VALID.value))
        if not valid:
            raise errors.DataError(f"{_VALID.value}: no rows")
    else:
        train, valid = examples_lib.split(examples, _HELD_OUT, _SEED.value)
        if not valid:
            raise errors.DataError(
                f"{_TRAIN.value}: too few rows to hold some out for validation; give --valid"
            )
    source = _TOKENIZER.value
    if _INIT.value:
        source = str(pathlib.Path(_INIT.value) / run_folder.TOKENIZER)
    target = path / run_folder.TOKENIZER
    if not target.exists():
        if source:
            tokenizer_lib.load_tokenizer(source)
            files.write_atomic(target, lambda temporary: shutil.copyfile(source, temporary))
        else:
            texts = (t for e in train for t in (e.text, e.text_pair) if t is not None)
            size = _VOCAB_SIZE.value or PRESETS[_PRESET.value].vocab_size
            tokenizer = tokenizer_lib.train_tokenizer(texts, size)
            files.write_atomic(target, lambda temporary: tokenizer.save(str(temporary)))
    tokenizer = tokenizer_lib.load_tokenizer(target)
    run_folder.write_labels(path / run_folder.LABELS, labels)
    examples_lib.write_csv(path / examples_lib.VALID_CSV, valid)
    return train, valid, labels, pair, tokenizer


def _taught(train: list, valid: list, labels: list[str], pair: bool):
    """Returns (examples without a label, what the teacher says of `train` and them, or None)."""
    if not _SOFT_LABELS.value:
        return [], None

    def keys(examples):
        return [(e.text, e.text_pair) for e in examples]

    # Texts that measure stay unseen, even without their labels.
    measuring = set(keys(valid))
    if _TEST.value:
        measuring |= set(keys(examples_lib.read_examples(_TEST.value)))
    soft = soft_labels.read_soft_labels(_SOFT_LABELS.value, labels, pair)
    unknown = soft.keys() - set(keys(train)) - measuring
    more = [examples_lib.Example(*key, "") for key in soft if key in unknown]
    nothing = np.full(max(len(labels), 1), np.nan, np.float32)
    values = np.stack([soft.get(key, nothing) for key in keys(train + more)])
    if np.isnan(values).all():
        raise errors.DataError(f"{_SOFT_LABELS.value}: no text that may be trained on")
    return more, distillation.Teaching(values, _TEACHER_WEIGHT.value, _TEMPERATURE.value)


def _check_files() -> bool:
    """Reads the first row of every file, so that a mistake costs no training; returns `pair`."""
    pair = False
    for path in (_TRAIN.value, _VALID.value, _TEST.value):
        if path is not None:
            first = next(examples_lib.read_examples(path), None)
            if first is None:
                raise errors.DataError(f"{path}:1: no rows after the header")
            if path == _TRAIN.value:
                pair = first.text_pair is not None
    return pair


def _take_over(model, labels: list[str]) -> None:
    """Copies the weights of --init: the backbone's, and a head of the same task and labels."""
    if run_folder.read_settings(_INIT.value).get("task") == backbone_folder.TASK:
        start = backbone_folder.load_backbone(_INIT.value)
        model.backbone.set_weights(start.model.get_weights())
        return
    start = run_folder.load_run(_INIT.value)
    model.backbone.set_weights(start.model.backbone.get_weights())
    if (start.task, start.labels) == (_TASK.value, labels):
        model.head.set_weights(start.model.head.get_weights())
        print(f"{_INIT.value}: its labels are the same, so its head is kept", flush=True)


def _train() -> None:
    path = pathlib.Path(_OUTPUT.value)
    pair = _check_files()
    config = PRESETS[_PRESET.value]
    if _INIT.value:
        config = EmbBertConfig.from_dict(run_folder.read_settings(_INIT.value)["config"])
    fields = config.to_dict() | {"dropout": _DROPOUT.value}
    if _VOCAB_SIZE.value and not _INIT.value:
        fields["vocab_size"] = _VOCAB_SIZE.value
    settings = _settings(EmbBertConfig.from_dict(fields), pair)
    settings["requested_config"] = settings["config"]
    if (path / run_folder.CONFIG).exists():
        # The vocabulary may have come out smaller than asked for.
        settings["config"] = run_folder.read_settings(path).get("config")
    known = check_same(path, settings)
    if known and run_folder.is_trained(path) and (path / run_folder.METRICS).exists():
        print(f"{path}: this training has finished already; nothing to do")
        return
    path.mkdir(parents=True, exist_ok=True)
    train, valid, labels, pair, tokenizer = _prepare(path)
    if not _INIT.value:
        fields["vocab_size"] = tokenizer.get_vocab_size()
    elif tokenizer.get_vocab_size() > fields["vocab_size"]:
        raise errors.RunError(f"{_INIT.value}: its tokenizer has more tokens than its model")
    config = EmbBertConfig.from_dict(fields)
    settings["config"] = config.to_dict()
    files.write_json(path / run_folder.CONFIG, settings)

    from tensorflow import keras

    from embbert_tf.model.classifier import EmbBertClassifier
    from embbert_tf.training import fit

    keras.utils.set_random_seed(_SEED.value)
    model = EmbBertClassifier(config, max(len(labels), 1), dropout=_DROPOUT.value)
    if _INIT.value:
        _take_over(model, labels)
    encoded = {
        name: (
            encoding.encode_all(tokenizer, examples, pair, config.max_length),
            encoding.targets_of(examples, labels, origin),
        )
        for name, examples, origin in (
            ("train", train, _TRAIN.value),
            ("valid", valid, _VALID.value or _TRAIN.value),
        )
    }
    more, teaching = _taught(train, valid, labels, pair)
    if more:
        ids = encoding.encode_all(tokenizer, more, pair, config.max_length)
        encoded["train"] = distillation.joined(encoded["train"], ids, labels)
    lengths = [len(ids) for ids in encoded["train"][0]]
    unlabelled = f" and {len(more)} without a label" if more else ""
    print(
        f"{len(train)} texts to train on{unlabelled}, {len(valid)} to validate on, "
        f"{np.mean(lengths):.1f} tokens on average, {max(lengths)} at most; "
        f"{model.count_params():,} parameters",
        flush=True,
    )
    history = fit.fit(
        model,
        encoded["train"],
        encoded["valid"],
        checkpoint=path / CHECKPOINT,
        label="train",
        epochs=_EPOCHS.value or default_epochs(len(lengths), _BATCH_SIZE.value),
        batch_size=_BATCH_SIZE.value,
        learning_rate=_LEARNING_RATE.value,
        weight_decay=_WEIGHT_DECAY.value,
        max_length=config.max_length,
        labels=labels,
        label_smoothing=_LABEL_SMOOTHING.value,
        token_dropout=_TOKEN_DROPOUT.value,
        vocab_size=config.vocab_size,
        patience=_PATIENCE.value,
        seed=_SEED.value,
        ema=_EMA.value,
        teaching=teaching,
        keep=_KEEP.value,
    )
    files.write_atomic(path / run_folder.FP32, lambda temporary: model.save(temporary))
    measured = {"history": history}
    measured["valid"] = metrics.measure(model, encoded["valid"], labels, config.max_length)
    if _TEST.value:
        examples = list(examples_lib.read_examples(_TEST.value))
        test = (
            encoding.encode_all(tokenizer, examples, pair, config.max_length),
            encoding.targets_of(examples, labels, _TEST.value),
        )
        measured["test"] = metrics.measure(model, test, labels, config.max_length)
    files.write_json(path / run_folder.METRICS, {"fp32": measured})
    (path / CHECKPOINT).unlink(missing_ok=True)
    shown = measured.get("test", measured["valid"])
    if labels:
        print(metrics.table(shown))
    for key, value in shown.items():
        if isinstance(value, float):
            print(f"{'test' if _TEST.value else 'validation'} {key} {value:.4f}")


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        _train()
    except (
        errors.DataError,
        errors.RunError,
        errors.TokenizerError,
        ValueError,
        OSError,
    ) as error:
        sys.exit(f"train: {error}")


if __name__ == "__main__":
    app.run(main)
