"""Conversion of a Keras file with a tokenizer and labels beside it, without a run folder."""

import dataclasses
import pathlib
from typing import Any

from converters.evaluation import labelled_rows
from converters.evaluation.model import Model
from converters.portable import convert as convert_lib
from converters.portable.options import ConvertOptions
from converters.tflite import model_folder
from embbert_tf import errors
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.data.files import PathLike
from embbert_tf.storage import run_folder


def convert_files(
    model: PathLike,
    *,
    tokenizer: PathLike,
    calibration: PathLike,
    labels: PathLike | None = None,
    pair: bool | None = None,
    validation: PathLike | None = None,
    recipe: str | None = None,
    options: ConvertOptions = ConvertOptions(),  # noqa: B008 (frozen)
) -> Model:
    """Converts a `.keras` file.

    Example:
    ```text
    model = convert_files("my.keras", tokenizer="tokenizer.json", labels="labels.txt",
                          calibration="train.csv")
    model.save("build/model/any_name.tflite")
    ```

    Args:
        model: A saved `EmbBertClassifier` or `QuantizedClassifier`.
        tokenizer: The `tokenizer.json` that made the token ids it was trained on.
        calibration: CSV to draw representative samples from: training data.
        labels: One label a line, in the order of the logits; None for a regression of one score.
        pair: Whether the model reads pairs of texts; None: if the calibration file has them.
        validation: As for `convert`.
        recipe: As for `convert`.
        options: As for `convert`.

    Raises:
        FileError: A file cannot be read, or is no model.
        OptionError: Model, tokenizer and labels do not fit each other.
        DataError, RangeError: As for `convert`.
    """
    run = read(model, tokenizer, labels, calibration, pair)
    converted = convert_lib.convert(
        run, calibration=calibration, validation=validation, recipe=recipe, options=options
    )
    text = pathlib.Path(tokenizer).read_text(encoding="utf-8")
    return dataclasses.replace(converted, tokenizer_json=text)


def read(
    model: PathLike,
    tokenizer: PathLike,
    labels: PathLike | None,
    calibration: PathLike,
    pair: bool | None,
) -> run_folder.Run:
    """Returns what a run folder would hold; arguments and errors as for `convert_files`."""
    names = model_folder.read_labels(labels) if labels is not None else []
    vocabulary = tokenizer_lib.load_tokenizer(tokenizer)
    examples = labelled_rows.read_sample(calibration)
    classifier, quantized = load(model)
    config = classifier.config
    _check_labels(model, classifier.num_labels, labels, names)
    if vocabulary.get_vocab_size() != config.vocab_size:
        raise errors.OptionError(
            f"{tokenizer}: {vocabulary.get_vocab_size()} tokens, but {model} has embeddings of "
            f"{config.vocab_size}; give the tokenizer that the model was trained with"
        )
    if pair is None:
        pair = examples[0].text_pair is not None
    labelled_rows.check_pairs(examples, pair, calibration)
    return run_folder.Run(
        path=pathlib.Path(model),
        config=config,
        task="classification" if names else "regression",
        pair=pair,
        labels=names,
        tokenizer=vocabulary,
        model=classifier,
        qat_model=quantized,
        ranges=quantized.ranges() if quantized is not None else None,
        metrics={},
    )


def load(path: PathLike) -> tuple[Any, Any]:
    """Returns (EmbBertClassifier, QuantizedClassifier or None) from a Keras file.

    Raises:
        FileError: It cannot be read as a Keras model.
        OptionError: It holds another model.
    """
    from tensorflow import keras

    # Keras finds these two by their registered names.
    from embbert_tf.model import classifier  # noqa: F401
    from embbert_tf.quantization import quantized_classifier  # noqa: F401

    path = pathlib.Path(path)
    if not path.exists():
        raise errors.FileError(f'{path}: no such file; `model.save("my.keras")` makes one')
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises about every class there is.
        reason = str(error).strip().splitlines()
        raise errors.FileError(
            f"{path}: cannot be read as a Keras model ({reason[0] if reason else error!r})"
        ) from error
    try:
        return convert_lib.split_model(model)
    except errors.OptionError as error:
        raise errors.OptionError(f"{path}: {error}") from error


def _check_labels(model: PathLike, logits: int, labels: PathLike | None, names: list[str]) -> None:
    """Raises OptionError unless there is a name for each logit, or a single score without name."""
    if logits == 1 and names:
        raise errors.OptionError(
            f"{labels}: {model} has one logit, which is a score and has no label; leave the labels "
            "out"
        )
    if logits > 1 and labels is None:
        raise errors.OptionError(
            f"{model}: {logits} logits without names; give a file with one label a line"
        )
    if logits > 1 and len(names) != logits:
        raise errors.OptionError(
            f"{labels}: {len(names)} labels for the {logits} logits of {model}"
        )
