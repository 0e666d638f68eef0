"""Fine-tunes a trained run with the device's int8 in its forward pass.

Example:
  python -m embbert_tf.qat --run=build/demo/run

Writes `qat.keras` and `ranges.json` into the run folder and adds the QAT model's accuracy to
`metrics.json`. Resumes when it was killed; leaves a finished run as it is.
"""

import pathlib
import random
import sys

from absl import app, flags

from embbert_tf import errors
from embbert_tf.data import encoding, files, soft_labels
from embbert_tf.data import examples as examples_lib
from embbert_tf.model import special_tokens
from embbert_tf.storage import run_folder
from embbert_tf.training import distillation, metrics

_RUN = flags.DEFINE_string(
    "run", None, "Run folder of `python -m embbert_tf.train`.", required=True
)
_TRAIN = flags.DEFINE_string("train", None, "The training CSV of that run.", required=True)
_VALID = flags.DEFINE_string(
    "valid", None, "Validation CSV of a run that has none of its own, as an imported one."
)
_TEST = flags.DEFINE_string("test", None, "Test CSV; only measured.")
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Epochs of fine-tuning.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Texts a step.", lower_bound=1)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-4, "Peak learning rate.", lower_bound=0)
_TOKEN_DROPOUT = flags.DEFINE_float(
    "token_dropout", 0.1, "Share of training tokens that are replaced.", 0, 0.9
)
_SAMPLES = flags.DEFINE_integer(
    "samples", 256, "Training texts from which the ranges start.", lower_bound=1
)
_SELF_DISTILL = flags.DEFINE_float(
    "self_distill",
    0.5,
    "Share of the loss that is the distance from the run's own fp32 probabilities.",
    0,
    1,
)
_UNLABELLED = flags.DEFINE_list(
    "unlabelled",
    [],
    "Files, plain or .gz, with a text a line, to which the term of --self_distill alone applies.",
)
_UNLABELLED_COUNT = flags.DEFINE_integer(
    "unlabelled_count", 0, "How many of them to draw at random; 0: all.", lower_bound=0
)
_KEEP = flags.DEFINE_enum(
    "keep",
    "best",
    ["best", "last"],
    "Epoch that stays: the best on the validation rows, or the last.",
)
_SEED = flags.DEFINE_integer("seed", 0, "Of order and samples.", lower_bound=0)
CHECKPOINT = "qat_checkpoint.npz"
_SETTINGS = "qat.json"
_TEMPERATURE = 2.0  # Of the self-distillation.
# What runs did before there was a flag for it.
_FORMER = {"self_distill": 0.0, "keep": "best", "unlabelled_count": 0, "unlabelled_sha256": []}
# What every run does since there is no flag for it any more. Folders may have been told otherwise.
_NOW = {"steps": "learnt", "consistency": 0.0}
_SAME_RUN = [
    "self_distill",
    "keep",
    "epochs",
    "batch_size",
    "learning_rate",
    "token_dropout",
    "samples",
    "unlabelled_count",
    "seed",
]


def _held_out(own: pathlib.Path) -> list:
    """Returns the validation rows; those of `--valid` become the run's own.

    Raises:
        RunError: The run has rows of its own and `--valid` others, or there are none at all.
    """
    if own.exists():
        valid = list(examples_lib.read_examples(own))
        if _VALID.value and list(examples_lib.read_examples(_VALID.value)) != valid:
            raise errors.RunError(
                f"{own}: the run was trained with these rows held out, {_VALID.value} has others; "
                "leave --valid away"
            )
    elif _VALID.value:
        valid = list(examples_lib.read_examples(_VALID.value))
        if valid:
            examples_lib.write_csv(own, valid)
    else:
        raise errors.RunError(
            f"{own}: the run has no validation rows, as imported ones have not; give --valid with "
            "rows that it was not trained on"
        )
    if not valid:
        path = own if own.exists() else _VALID.value
        raise errors.DataError(f"{path}: no rows; the best epoch is chosen on them")
    return valid


def _more(run, known: list) -> list:
    """Returns the unlabelled texts, none of which is known by its label or measures.

    Raises:
        RunError: They are of no use to this training.
        CorpusError: A file cannot be read.
        DataError: They are all known.
    """
    if not _UNLABELLED.value:
        return []
    if not _SELF_DISTILL.value:
        raise errors.RunError("--unlabelled texts need a --self_distill above 0 to learn from")
    if run.pair:
        raise errors.RunError("--unlabelled has single texts, this run is trained on pairs")
    if _TEST.value:
        known = known + list(examples_lib.read_examples(_TEST.value))
    known = {(e.text, None) for e in known}
    return soft_labels.read_unlabelled(
        _UNLABELLED.value, _UNLABELLED_COUNT.value, _SEED.value, known
    )


def _check_same(path: pathlib.Path, settings: dict) -> None:
    """Makes sure that a folder's quantization-aware training, if it has one, is of these settings.

    Raises:
        RunError: It is of others.
    """
    if not (path / _SETTINGS).exists():
        return
    recorded = files.read_json(path / _SETTINGS).get("qat", {})
    before = _FORMER | recorded
    if "self_distill" not in recorded:  # It came together with learnt ranges.
        before.setdefault("steps", "average")
    now = {name: value for name, value in _NOW.items() if name in before} | settings
    changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if changed:
        raise errors.RunError(
            f"{path}: holds a quantization-aware training with other {', '.join(changed)}; delete "
            f"{path / _SETTINGS} and {path / run_folder.RANGES} to do it anew"
        )


def _qat() -> None:
    path = pathlib.Path(_RUN.value)
    settings = {"qat": {name: flags.FLAGS[name].value for name in _SAME_RUN}}
    settings["qat"]["unlabelled_sha256"] = [files.digest(file) for file in _UNLABELLED.value]
    _check_same(path, settings["qat"])
    if (path / run_folder.RANGES).exists() and (path / _SETTINGS).exists():
        print(f"{path}: this quantization-aware training has finished already; nothing to do")
        return
    run = run_folder.load_run(path)
    # The run's own validation rows must stay unseen.
    valid = _held_out(path / examples_lib.VALID_CSV)
    held = {(e.text, e.text_pair, e.label) for e in valid}
    examples = [
        e
        for e in examples_lib.read_examples(_TRAIN.value)
        if (e.text, e.text_pair, e.label) not in held
    ]
    if not examples:
        raise errors.DataError(f"{_TRAIN.value}: no rows beside those of {examples_lib.VALID_CSV}")

    more = _more(run, examples + valid)
    files.write_json(path / _SETTINGS, settings)

    def encoded(rows, origin):
        return (
            encoding.encode_all(run.tokenizer, rows, run.pair, run.config.max_length),
            encoding.targets_of(rows, run.labels, origin),
        )

    train = encoded(examples, _TRAIN.value)
    held_out = encoded(valid, path / examples_lib.VALID_CSV)
    if more:
        ids = encoding.encode_all(run.tokenizer, more, run.pair, run.config.max_length)
        train = distillation.joined(train, ids, run.labels)
        print(f"{len(examples)} texts with a label, {len(more)} without", flush=True)
    import numpy as np
    from tensorflow import keras

    from embbert_tf.data import batches
    from embbert_tf.quantization import quantized_classifier
    from embbert_tf.training import fit

    keras.utils.set_random_seed(_SEED.value)
    model = quantized_classifier.QuantizedClassifier(run.config, max(len(run.labels), 1))
    model(np.full((1, 2), special_tokens.CLS, np.int32))
    rng = random.Random(_SEED.value)
    sample = rng.sample(train[0], min(_SAMPLES.value, len(train[0])))
    model.start_from(run.model, sample)
    model.learn_steps(sample)
    teaching = None
    if _SELF_DISTILL.value:
        said = batches.predict(run.model, train[0], run.config.max_length)
        if run.labels:
            said = distillation.softmax(said)
        teaching = distillation.Teaching(said, _SELF_DISTILL.value, _TEMPERATURE)
    history = fit.fit(
        model,
        train,
        held_out,
        checkpoint=path / CHECKPOINT,
        label="qat",
        epochs=_EPOCHS.value,
        batch_size=_BATCH_SIZE.value,
        learning_rate=_LEARNING_RATE.value,
        weight_decay=0.0,
        max_length=run.config.max_length,
        labels=run.labels,
        token_dropout=_TOKEN_DROPOUT.value,
        vocab_size=run.config.vocab_size,
        patience=_EPOCHS.value,
        seed=_SEED.value,
        teaching=teaching,
        keep=_KEEP.value,
    )
    model = model.settled()

    def measured(data):
        return metrics.measure(model, data, run.labels, run.config.max_length)

    result = {"history": history, "valid": measured(held_out)}
    if _TEST.value:
        rows = list(examples_lib.read_examples(_TEST.value))
        result["test"] = measured(encoded(rows, _TEST.value))
    files.write_atomic(path / run_folder.QAT, lambda temporary: model.save(temporary))
    files.write_json(path / run_folder.METRICS, run.metrics | {"qat": result})
    # Last: a run counts as quantization-aware once its ranges are there.
    files.write_json(
        path / run_folder.RANGES, {name: list(value) for name, value in model.ranges().items()}
    )
    (path / CHECKPOINT).unlink(missing_ok=True)
    for key, value in result.get("test", result["valid"]).items():
        if isinstance(value, float):
            print(f"{'test' if _TEST.value else 'validation'} {key} {value:.4f}")


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        _qat()
    except (
        errors.DataError,
        errors.RunError,
        errors.TokenizerError,
        ValueError,
        OSError,
    ) as error:
        sys.exit(f"qat: {error}")


if __name__ == "__main__":
    app.run(main)
