"""Fine-tunes a run with the device's int8 in its forward pass."""

import dataclasses
import pathlib
import random
from typing import Any

import numpy as np

from embbert_tf import errors
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.data import encoding, files, soft_labels
from embbert_tf.data import examples as examples_lib
from embbert_tf.data.examples import Example
from embbert_tf.data.files import PathLike
from embbert_tf.storage import run_folder
from embbert_tf.storage.run_folder import Run
from embbert_tf.training import distillation, embedding_targets, encoder, metrics
from embbert_tf.training import options as options_lib
from embbert_tf.training.options import QatOptions
from embbert_tf.training.score_scale import ScoreScale

CHECKPOINT = "qat_checkpoint.npz"
SETTINGS = "qat.json"
_TEMPERATURE = 2.0  # Of the self-distillation.
# What trainings did before they recorded it: those without self-distillation averaged their ranges.
_FORMER = {"self_distill": 0.0, "keep": "best", "steps": "average"}
# What every training does since there is no option for it any more.
_NOW = {"steps": "learnt"}


def train_quantized(
    run: Run | PathLike,
    train: PathLike,
    options: QatOptions | None = None,
    *,
    valid: PathLike | None = None,
    test: PathLike | None = None,
) -> Run:
    """Fine-tunes a trained run so that it loses little or nothing as int8.

    Writes `qat.keras`, `ranges.json`, `steps.json` (4 bits) and `qat.json` into the run folder and
    adds to its `metrics.json`. Every input is read whole and checked before that. A training that
    was killed goes on when it is called again; a finished one is left as it is.

    Example:
    ```python
    import embbert_tf

    options = embbert_tf.TrainOptions(preset="test", epochs=1)
    run = embbert_tf.train("train.csv", output="build/run", options=options)
    run = embbert_tf.train_quantized(run, "train.csv", embbert_tf.QatOptions(epochs=1))
    print(run.metrics["qat"]["valid"]["accuracy"])
    ```

    Args:
        run: A finished run, or its folder.
        train: The training CSV of that run; rows that were held out of the run stay so. Of an
            encoder its file of embeddings, whose texts are read: the fp32 rows are the targets.
        options: All that can be chosen; None for the defaults.
        valid: Validation CSV of a run that has none of its own, as an imported one.
        test: Test CSV; only measured.

    Returns:
        The run with both models, as `load_run` reads it afterwards.

    Raises:
        EmbBertError: An input cannot be used, or the folder holds another quantization-aware
            training.
    """
    options = options or QatOptions()
    path = run.path if isinstance(run, Run) else pathlib.Path(run)
    digests = {"unlabelled": [files.sha256(file) for file in options.unlabelled]}
    settings = options_lib.recorded(options, digests)
    _check_same(path, settings)
    if (path / run_folder.RANGES).exists() and (path / SETTINGS).exists():
        print(
            f"{path}: this quantization-aware training has finished already; nothing to do",
            flush=True,
        )
        return run_folder.load_run(path)
    files.check_folder(path)
    run = run if isinstance(run, Run) else run_folder.load_run(path)
    read = _read_texts if run.task == encoder.TASK else _read
    data = read(run, train, valid, test, options)
    if data.new_valid:
        examples_lib.write_csv(path / examples_lib.VALID_CSV, data.valid)
    files.write_json(path / SETTINGS, {"qat": settings})
    model, history, valid_ids = _fit(run, data, options)
    measured = _save(run, model, history, valid_ids, data)
    return dataclasses.replace(run, qat_model=model, ranges=model.ranges(), metrics=measured)


def _check_same(path: pathlib.Path, settings: dict[str, Any]) -> None:
    """Makes sure that a folder's quantization-aware training, if it has one, is of these settings.

    Raises:
        RunError: It is of others.
    """
    if not (path / SETTINGS).exists():
        return
    before = files.read_json(path / SETTINGS).get("qat", {})
    before = (_NOW if "self_distill" in before else _FORMER) | before
    changed = options_lib.differences(before, _NOW | settings)
    if changed:
        raise errors.RunError(
            f"{path}: holds a quantization-aware training with other {', '.join(changed)}; delete "
            f"{path / SETTINGS} and {path / run_folder.RANGES} to do it anew"
        )


# ---- What is read ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Data:
    """All rows, checked.

    Attributes:
        train: Rows to learn from.
        valid: Rows that choose the epoch.
        new_valid: They are not in the run folder yet.
        test: Rows that are measured at the end, or none.
        targets: By name of the above, int64 class indices or float64 scores, (count,) each; of an
            encoder the fp32 model's rows, float32 (count, width).
        more: Texts without a label.
        scale: In which a regression learns.
    """

    train: list[Example]
    valid: list[Example]
    new_valid: bool
    test: list[Example]
    targets: dict[str, np.ndarray]
    more: list[Example]
    scale: ScoreScale


def _read(
    run: Run, train: PathLike, valid: PathLike | None, test: PathLike | None, options: QatOptions
) -> _Data:
    """Reads every row of every file.

    Raises:
        DataError: One cannot be used.
        RunError: The validation rows are not those of the run.
    """
    rows = examples_lib.read_all(train, run.pair)
    targets = {"train": encoding.targets_of(rows, run.labels, train)}
    # The run's own validation rows must stay unseen.
    held_out, origin = _held_out(run, valid)
    held = set(held_out)
    rows = [row for row in rows if row not in held]
    if not rows:
        raise errors.DataError(f"{train}: no rows beside those of {examples_lib.VALID_CSV}")
    tested = [] if test is None else examples_lib.read_all(test, run.pair)
    targets["train"] = encoding.targets_of(rows, run.labels, train)
    targets["valid"] = encoding.targets_of(held_out, run.labels, origin)
    targets["test"] = encoding.targets_of(tested, run.labels, test or "")
    scale = ScoreScale() if run.labels else ScoreScale.of(targets["train"], train)
    more = _unlabelled(run, rows + held_out + tested, options)
    new_valid = not (run.path / examples_lib.VALID_CSV).exists()
    return _Data(rows, held_out, new_valid, tested, targets, more, scale)


def _read_texts(
    run: Run, train: PathLike, valid: PathLike | None, test: PathLike | None, options: QatOptions
) -> _Data:
    """Reads the texts of an encoder, whose targets are what it says of them in fp32.

    Raises:
        EncoderError: The file has no texts.
        OptionError: There is something that an encoder's training has no use for.
    """
    if valid is not None or test is not None or options.unlabelled:
        raise errors.OptionError(
            "an encoder's quantization-aware training takes a file of embeddings alone; leave "
            "valid, test and unlabelled away"
        )
    from embbert_tf.data import batches

    rows = [Example(text, None, "") for text in encoder.read_rows(train).texts]
    ids = encoding.encode_all(run.tokenizer, rows, False, run.config.max_length)
    goals = batches.predict(run.model, ids)
    measuring = np.array([embedding_targets.held_out(row.text) for row in rows])
    parts = {"train": ~measuring, "valid": measuring}
    texts = {name: [rows[i] for i in np.flatnonzero(part)] for name, part in parts.items()}
    targets = {name: goals[part] for name, part in parts.items()}
    return _Data(texts["train"], texts["valid"], False, [], targets, [], ScoreScale())


def _held_out(run: Run, valid: PathLike | None) -> tuple[list[Example], PathLike]:
    """Returns the validation rows and the file they came from.

    Raises:
        RunError: The run has rows of its own and `valid` others, or there are none at all.
    """
    own = run.path / examples_lib.VALID_CSV
    given = None if valid is None else examples_lib.read_all(valid, run.pair)
    if not own.exists():
        if valid is None or given is None:
            raise errors.RunError(
                f"{own}: the run has no validation rows, as imported ones have not; give a "
                "validation file (--valid) with rows that it was not trained on"
            )
        return given, valid
    rows = examples_lib.read_all(own, run.pair)
    if given is not None and given != rows:
        raise errors.RunError(
            f"{own}: the run was trained with these rows held out, {valid} has others; leave the "
            "validation file (--valid) away"
        )
    return rows, own


def _unlabelled(run: Run, known: list[Example], options: QatOptions) -> list[Example]:
    """Returns the texts without a label, none of which is known by its label or measures.

    Raises:
        OptionError: The run cannot learn from them.
        CorpusError: A file cannot be read.
        DataError: They are all known.
    """
    if not options.unlabelled:
        return []
    if run.pair:
        raise errors.OptionError("unlabelled files have single texts, this run is trained on pairs")
    keys = {(row.text, None) for row in known}
    return soft_labels.read_unlabelled(
        options.unlabelled, options.unlabelled_count, options.seed, keys
    )


# ---- The training ------------------------------------------------------------------------------


def _fit(
    run: Run, data: _Data, options: QatOptions
) -> tuple[Any, list[dict[str, Any]], list[list[int]]]:
    """Trains in standard units.

    Returns:
        The model in the user's unit, its ranges settled; the history; token ids of the
        validation rows.
    """
    from embbert_tf.training import fit

    limit = run.config.max_length

    def encoded(name: str, rows: list[Example]) -> tuple[list[list[int]], np.ndarray]:
        targets = data.targets[name] if run.labels else data.scale.standard(data.targets[name])
        return encoding.encode_all(run.tokenizer, rows, run.pair, limit), targets

    train, held_out = encoded("train", data.train), encoded("valid", data.valid)
    if data.more:
        ids = encoding.encode_all(run.tokenizer, data.more, run.pair, limit)
        train = distillation.joined(train, ids, run.labels)
        print(f"{len(data.train)} texts with a label, {len(data.more)} without", flush=True)
    teacher = _in_standard_units(run, data.scale)
    model = _quantized(teacher, train[0], options)
    history = fit.fit(
        model,
        train,
        held_out,
        fit.Settings(
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            weight_decay=0.0,
            token_dropout=options.token_dropout,
            vocab_size=run.config.vocab_size,
            patience=options.epochs,
            seed=options.seed,
            keep=options_lib.with_kept(options, len(data.valid)).keep,
        ),
        checkpoint=run.path / CHECKPOINT,
        label="qat",
        labels=run.labels,
        teaching=_teaching(run, teacher, train[0], options),
    )
    return _in_users_unit(model.settled(), data.scale, run), history, held_out[0]


def _in_standard_units(run: Run, scale: ScoreScale) -> Any:
    """Returns the run's fp32 model, of a regression a copy that answers in standard units."""
    if run.labels:
        return run.model
    copy = type(run.model).from_config(run.model.get_config())
    copy.set_weights(run.model.get_weights())
    scale.standardize_head(copy.head)
    return copy


def _in_users_unit(model: Any, scale: ScoreScale, run: Run) -> Any:
    """Returns the settled model; one of a regression answers in the user's unit from here on."""
    if run.labels:
        return model
    scale.restore_head(model.classifier.head)
    ranges = model.ranges()
    low, high = scale.restored(np.array(ranges["logits"]))
    model.restore_ranges(ranges | {"logits": (float(low), float(high))})
    return model


def _quantized(teacher: Any, sequences: list[list[int]], options: QatOptions) -> Any:
    """Returns a quantized model with the teacher's weights, and ranges that fit a sample."""
    from tensorflow import keras

    from embbert_tf.baselines import quantized_baseline
    from embbert_tf.quantization import quantized_classifier

    keras.utils.set_random_seed(options.seed)
    sample = random.Random(options.seed).sample(sequences, min(options.samples, len(sequences)))
    compared = isinstance(teacher.config, BaselineConfig)
    module = quantized_baseline if compared else quantized_classifier
    return module.quantize(teacher, sample, options.weight_bits)


def _teaching(
    run: Run, teacher: Any, sequences: list[list[int]], options: QatOptions
) -> distillation.Teaching | None:
    """Returns what the fp32 model says of the training texts."""
    if not options.self_distill or run.task == encoder.TASK:
        return None
    from embbert_tf.data import batches

    said = batches.predict(teacher, sequences)
    if run.labels:
        said = distillation.softmax(said)
    return distillation.Teaching(said, options.self_distill, _TEMPERATURE)


def _save(
    run: Run,
    model: Any,
    history: list[dict[str, Any]],
    valid_ids: list[list[int]],
    data: _Data,
) -> dict[str, Any]:
    """Measures, prints and writes the model; the ranges last, which say that it is complete.

    Returns:
        Content of `metrics.json`.
    """
    parts = {"valid": (valid_ids, data.targets["valid"])}
    if data.test:
        ids = encoding.encode_all(run.tokenizer, data.test, run.pair, run.config.max_length)
        parts["test"] = (ids, data.targets["test"])
    measured = metrics.measure_parts(model, history, parts, run.labels)
    files.write_atomic(run.path / run_folder.QAT, lambda temporary: model.save(temporary))
    every_stage = run.metrics | {"qat": measured}
    files.write_json(run.path / run_folder.METRICS, every_stage)
    (run.path / run_folder.STEPS).unlink(missing_ok=True)  # Of an earlier training.
    if steps := model.steps():
        files.write_json(run.path / run_folder.STEPS, steps)
    ranges = {name: list(value) for name, value in model.ranges().items()}
    files.write_json(run.path / run_folder.RANGES, ranges)
    (run.path / CHECKPOINT).unlink(missing_ok=True)
    metrics.show(measured)
    return every_stage
