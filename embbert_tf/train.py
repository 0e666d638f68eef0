"""Trains an EmbBERT classifier on a CSV file.

    python -m embbert_tf.train --train=train.csv --test=test.csv --output=build/run

The CSV has the columns text,label or text,text_pair,label; `.csv.gz` will do. Everything goes to the
folder --output. When the command is killed, the same command goes on after the last whole epoch.
"""

import dataclasses
import hashlib
import pathlib
import sys
import time

from absl import app, flags

from embbert_tf import data, run
from embbert_tf import tokenizer as tokenizer_lib
from embbert_tf.config import PRESETS, EmbBertConfig

FLAGS = flags.FLAGS

flags.DEFINE_string("train", None, "Training data, .csv or .csv.gz.", required=True)
flags.DEFINE_string(
    "valid", None, "Validation data for early stopping; without it a share of --train is held out."
)
flags.DEFINE_string("test", None, "Test data: only measured at the end, never used to choose.")
flags.DEFINE_string("output", None, "Run folder, made if missing.", required=True)
flags.DEFINE_enum("preset", "embbert", sorted(PRESETS), "Size of the model.")
flags.DEFINE_enum(
    "task", "classification", ["classification", "regression"],
    "Regression reads the label column as a number and minimizes the squared error.",
)  # fmt: skip
flags.DEFINE_integer(
    "vocab_size", None,
    "Most tokens of the vocabulary; little text yields fewer. Default: the preset's.", lower_bound=6,
)  # fmt: skip
flags.DEFINE_integer(
    "max_length", None, "Most tokens of a text, the rest is cut off. Default: the preset's.",
    lower_bound=2,
)  # fmt: skip
flags.DEFINE_string(
    "init", None,
    "Run folder whose backbone weights and tokenizer to start from; the head starts anew.",
)  # fmt: skip
flags.DEFINE_integer("epochs", 16, "Most passes over the training data.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Texts a step.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-3, "Peak learning rate.", lower_bound=0.0)
flags.DEFINE_float("warmup", 0.1, "Fraction of the steps in which the rate rises.", 0.0, 1.0)
flags.DEFINE_float("weight_decay", 0.05, "AdamW's decoupled weight decay.", lower_bound=0.0)
flags.DEFINE_float(
    "average", 0.99, "Decay of the moving average of the weights; 0 for none.", 0.0, 0.99999
)
flags.DEFINE_float("label_smoothing", 0.1, "Mass of each target spread over all classes.", 0.0, 0.9)
flags.DEFINE_float("token_dropout", 0.1, "Share of training tokens read as unknown.", 0.0, 0.9)
flags.DEFINE_float("dropout", 0.1, "Dropout on attention weights and before the head.", 0.0, 0.9)
flags.DEFINE_integer(
    "patience", 5, "Epochs without a better validation figure before training ends.", lower_bound=1
)
flags.DEFINE_float("valid_fraction", 0.1, "Share held out when --valid is missing.", 0.01, 0.5)
flags.DEFINE_integer("seed", 1, "Seed of weights, batches, dropout and the held-out share.")

# Flags that decide what the run is; a run folder belongs to one set of them.
_FIXED = (
    "preset", "task", "vocab_size", "max_length", "init", "epochs", "batch_size", "learning_rate",
    "warmup", "weight_decay", "average", "label_smoothing", "token_dropout", "dropout", "patience",
    "valid_fraction", "seed",
)  # fmt: skip


def file_hash(path) -> str | None:
    """Returns the SHA-256 of a file, or None without one.

    Raises:
        data.DataError: if it cannot be read.
    """
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise data.DataError(f"{path}: cannot be opened ({error.strerror})") from error


def check_same(folder, old: dict, new: dict) -> None:
    """Refuses to go on with a run under other settings.

    Raises:
        run.RunError: naming the first settings that differ.
    """
    changed = [
        f"{name} was {old.get(name)!r}, now {value!r}"
        for name, value in new.items()
        if old.get(name) != value
    ]
    if changed:
        raise run.RunError(
            f"{folder}: holds a run with other settings ({'; '.join(changed[:3])}); "
            "choose another folder or delete this one"
        )


def load_init(path, config: EmbBertConfig, max_length):
    """Reads the backbone to start from; returns its tokenizer, weights and configuration.

    Raises:
        run.RunError: if the folder is not usable.
    """
    source = run.load_run(path)
    config = dataclasses.replace(source.config, dropout=config.dropout)
    if max_length and max_length > config.max_length:
        raise run.RunError(f"--init={path} has {config.max_length} positions, not {max_length}")
    return source.tokenizer, source.model.backbone.get_weights(), config


def train(values: dict) -> dict:
    """Runs a training, or the rest of it.

    Args:
        values: A value for each flag of this module.

    Returns:
        The content of `metrics.json`.

    Raises:
        data.DataError: if the data cannot be used.
        run.RunError: if the run folder cannot.
    """
    folder = pathlib.Path(values["output"])
    settings = {name: values[name] for name in _FIXED}
    settings |= {f"{name}_sha256": file_hash(values[name]) for name in ("train", "valid", "test")}
    if (folder / run.CONFIG).exists():
        check_same(folder, run.read_settings(folder).get("flags", {}), settings)
        if (folder / run.METRICS).exists():
            print(f"{folder}: this training is finished; nothing to do")
            return run.read_json(folder / run.METRICS)
    elif folder.exists() and any(
        not entry.name.startswith(".partial-") for entry in folder.iterdir()
    ):
        raise run.RunError(f"{folder}: holds other files and no run; choose another folder")

    rows = list(data.read_examples(values["train"]))
    regression = values["task"] == "regression"
    labels = [] if regression else data.label_names(rows, values["train"])
    pair = bool(rows) and rows[0].text_pair is not None
    preset = PRESETS[values["preset"]]
    config = dataclasses.replace(
        preset,
        vocab_size=values["vocab_size"] or preset.vocab_size,
        max_length=values["max_length"] or preset.max_length,
        dropout=values["dropout"],
    )

    folder.mkdir(parents=True, exist_ok=True)
    from tensorflow import keras

    from embbert_tf import batches, classifier, metrics, training

    training.clear_partial_files(folder)
    initial = None
    if values["init"]:
        tokenizer, initial, config = load_init(values["init"], config, values["max_length"])
    elif (folder / run.TOKENIZER).exists():
        tokenizer = tokenizer_lib.load_tokenizer(folder / run.TOKENIZER)
    else:
        texts = (t for row in rows for t in (row.text, row.text_pair) if t is not None)
        tokenizer = tokenizer_lib.train_tokenizer(texts, config.vocab_size)
    if initial is None:
        config = dataclasses.replace(config, vocab_size=tokenizer.get_vocab_size())
    if not (folder / run.CONFIG).exists():
        # The configuration comes last: with it, the folder is a run.
        run.write_atomic(folder / run.TOKENIZER, lambda path: tokenizer.save(str(path)))
        if labels:
            run.write_labels(folder / run.LABELS, labels)
        run.write_json(
            folder / run.CONFIG,
            {
                "config": config.to_dict(),
                "task": values["task"],
                "pair": pair,
                "num_labels": len(labels) or 1,
                "flags": settings,
            },
        )

    length = min(config.max_length, values["max_length"] or config.max_length)

    def load(name):
        return batches.encode_examples(
            data.read_examples(values[name]), tokenizer, labels, length, values[name]
        )

    train_set = batches.encode_examples(rows, tokenizer, labels, length, values["train"])
    test_set = load("test") if values["test"] else None
    if values["valid"]:
        valid_set = load("valid")
    else:
        train_set, valid_set = batches.hold_out(train_set, values["valid_fraction"], values["seed"])
        if not valid_set.ids:
            raise data.DataError(
                f"{values['train']}: too few rows to hold out a validation set; give --valid"
            )

    keras.utils.set_random_seed(values["seed"])
    model = classifier.EmbBertClassifier(config, len(labels) or 1, values["dropout"])
    if initial is not None:
        model.backbone.set_weights(initial)
    print(
        f"{len(train_set.ids)} training texts, {len(labels) or 'no'} classes, "
        f"{config.vocab_size} tokens, {model.count_params():,} parameters",
        flush=True,
    )
    hyperparameters = (
        "epochs", "batch_size", "learning_rate", "warmup", "weight_decay", "average",
        "label_smoothing", "token_dropout", "patience", "seed",
    )  # fmt: skip
    progress = training.fit(
        model,
        train_set,
        valid_set,
        folder,
        "train",
        verbose=values.get("verbose", training.default_verbosity()),
        **{name: values[name] for name in hyperparameters},
    )
    started = time.monotonic()
    result = {
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "train_seconds": round(progress.seconds, 1),
        "parameters": model.count_params(),
        "valid": metrics.evaluate(batches.predict(model, valid_set.ids), valid_set),
    }
    if test_set:
        result["test"] = metrics.evaluate(batches.predict(model, test_set.ids), test_set)
    result["evaluation_seconds"] = round(time.monotonic() - started, 1)
    run.write_atomic(folder / run.FP32, model.save)
    run.write_json(folder / run.METRICS, {"fp32": result})
    training.remove_checkpoint(folder, "train")
    print(metrics.table(result["test" if test_set else "valid"]))
    print(f"{progress.epoch} epochs in {progress.seconds:.0f} s; run folder: {folder}")
    return {"fp32": result}


def main(argv):
    """Runs the command."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    values = {name: FLAGS[name].value for name in (*_FIXED, "train", "valid", "test", "output")}
    try:
        train(values)
    except (data.DataError, run.RunError, tokenizer_lib.TokenizerError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
