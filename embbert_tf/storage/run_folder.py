"""The run folder: everything a training leaves behind.

| file | content |
| --- | --- |
| `config.json` | sizes, task, pair, options of the training; of an encoder `width` |
| `tokenizer.json` | the tokenizer |
| `labels.txt` | one label a line, in the order of the logits; empty for regression and encoder |
| `valid.csv` | the rows that chose the best epoch, held out of training; none of an encoder |
| `fp32.keras` | the trained classifier |
| `qat.keras` | after quantization-aware training: classifier and quantizers |
| `weights.npz` | in place of both, in `zoo/`: see `embbert_tf/storage/packed_weights.py` |
| `ranges.json` | `{activation: [min, max]}` that it learnt |
| `steps.json` | `{weight: [step of each channel]}` that it learnt, of weights of 4 bits |
| `qat.json` | its options |
| `metrics.json` | history, validation and test figures under `fp32` and `qat` |
| `checkpoint.npz`, `qat_checkpoint.npz` | state to resume from; removed when a stage ends |
"""

import dataclasses
import pathlib
from typing import Any

import tokenizers

from embbert_tf import errors
from embbert_tf.baselines import any_model
from embbert_tf.baselines.any_model import AnyConfig
from embbert_tf.data import files
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.data.files import PathLike
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.storage import packed_weights

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
LABELS = "labels.txt"
FP32 = "fp32.keras"
QAT = "qat.keras"
RANGES = "ranges.json"
STEPS = "steps.json"
METRICS = "metrics.json"

# An encoder has no labels: its logits are a row, and near texts have near rows.
TASKS = ("classification", "regression", "encoder")


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        path: The folder.
        config: Sizes of the model.
        task: "classification", "regression" or "encoder".
        pair: True if the model was trained on pairs of texts.
        labels: Names in the order of the logits; empty for regression and encoder.
        tokenizer: Hugging Face tokenizer; use `embbert_tf.data.tokenizer.encode`.
        model: fp32 `EmbBertClassifier`, or `BaselineClassifier` of another architecture.
        qat_model: Likewise `QuantizedClassifier` or `QuantizedBaseline`, or None before
            quantization-aware training.
        ranges: Activation name to (min, max), or None before quantization-aware training.
        metrics: Content of `metrics.json`.
    """

    path: pathlib.Path
    config: AnyConfig
    task: str
    pair: bool
    labels: list[str]
    tokenizer: tokenizers.Tokenizer
    model: Any
    qat_model: Any = None
    ranges: dict[str, tuple[float, float]] | None = None
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)


def load_run(path: PathLike) -> Run:
    """Reads a run folder.

    Example:
    ```python
    import embbert_tf
    import numpy as np

    run = embbert_tf.load_run("build/run")
    ids = embbert_tf.encode(run.tokenizer, "start the fan", max_length=run.config.max_length)
    print(run.labels[run.model(np.array([ids])).numpy().argmax()])
    ```

    Raises:
        RunError: The folder or one of its files is missing or unreadable.
        TokenizerError: Its tokenizer cannot be used.
    """
    path = pathlib.Path(path)
    settings = read_settings(path)
    if settings.get("task") not in TASKS or "pair" not in settings:
        raise errors.RunError(
            f"{path / CONFIG}: not that of a run, but of a "
            f"{settings.get('task', 'thing unknown')}; "
            "`python -m embbert_tf.train --init=FOLDER` makes a run of a backbone"
        )
    if not is_trained(path):
        raise errors.RunError(
            f"{path}: training has not finished ({FP32} is missing); run the same "
            "`python -m embbert_tf.train` command again"
        )
    config = read_config(path)
    task, pair = settings["task"], bool(settings["pair"])
    labels = read_labels(path / LABELS) if task == "classification" else []
    tokenizer = tokenizer_lib.load_tokenizer(path / TOKENIZER)
    ranges = _read_ranges(path / RANGES)
    logits = _width(path, settings) if task == "encoder" else max(len(labels), 1)
    model, qat_model = _load_models(path, config, logits, ranges)
    if task != "regression" and logits != model.num_labels:
        raise errors.RunError(
            f"{path / LABELS}: {len(labels)} labels for a model of {model.num_labels} logits"
            if task == "classification"
            else f"{path / CONFIG}: width {logits} for a model of {model.num_labels}"
        )
    metrics = files.read_json(path / METRICS) if (path / METRICS).exists() else {}
    return Run(path, config, task, pair, labels, tokenizer, model, qat_model, ranges, metrics)


def _width(path: pathlib.Path, settings: dict[str, Any]) -> int:
    """Returns how many numbers an encoder's row has."""
    width = settings.get("width")
    if not isinstance(width, int) or width < 1:
        raise errors.RunError(
            f"{path / CONFIG}: no width of an encoder's rows; copy the folder anew"
        )
    return width


def _read_ranges(path: pathlib.Path) -> dict[str, tuple[float, float]] | None:
    """Returns the ranges of the activations, or None before quantization-aware training."""
    if not path.exists():
        return None
    try:
        return {name: (float(a), float(b)) for name, (a, b) in files.read_json(path).items()}
    except errors.RunError:
        raise
    except (ValueError, TypeError) as error:
        raise errors.RunError(f"{path}: not ranges of activations ({error})") from error


def _load_models(
    path: pathlib.Path,
    config: AnyConfig,
    num_labels: int,
    ranges: dict[str, tuple[float, float]] | None,
) -> tuple[Any, Any]:
    """Returns (fp32 model, QAT model or None) of either form of a run."""
    # Keras takes seconds to load, and everything else in this module does without it.
    from tensorflow import keras

    from embbert_tf.baselines import quantized_baseline  # noqa: F401
    from embbert_tf.quantization import quantized_classifier  # noqa: F401

    try:
        if not (path / FP32).exists():
            return _unpack(path, config, num_labels, ranges)
        model = keras.models.load_model(path / FP32, compile=False)
        if ranges is None:
            return model, None
        # The ranges are written last, so both are complete if they are there.
        return model, keras.models.load_model(path / QAT, compile=False)
    except errors.RunError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise errors.RunError(f"{path}: the model cannot be loaded ({error})") from error


def is_trained(path: PathLike) -> bool:
    """Whether a folder holds the weights of a finished training, in either form."""
    path = pathlib.Path(path)
    return (path / FP32).exists() or (path / packed_weights.PACKED).exists()


def weight_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Returns name to shape of every weight of an `EmbBertClassifier`, in Keras's order."""
    return {weight.name.split(":")[0]: tuple(weight.shape) for weight in model.weights}


def _unpack(
    path: pathlib.Path,
    config: AnyConfig,
    num_labels: int,
    ranges: dict[str, tuple[float, float]] | None,
) -> tuple[Any, Any]:
    """Returns (fp32 model, QAT model) of a run with packed weights."""
    from embbert_tf.model import classifier
    from embbert_tf.quantization import quantized_classifier

    if not isinstance(config, EmbBertConfig):
        raise errors.RunError(
            f"{path}: packed weights are those of an EmbBERT; copy the folder anew"
        )
    if ranges is None:
        raise errors.RunError(f"{path}: {RANGES} is missing; copy the folder anew")
    model = classifier.EmbBertClassifier(config, num_labels)
    qat_config: dict[str, Any] = {"config": config, "num_labels": num_labels}
    steps = files.read_json(path / STEPS) if (path / STEPS).exists() else {}
    if steps:
        qat_config["weight_bits"] = 4
    qat_model = quantized_classifier.QuantizedClassifier.from_config(qat_config)
    plain, trained = packed_weights.unpack(path / packed_weights.PACKED, weight_shapes(model))
    model.set_weights(plain)
    qat_model.classifier.set_weights(trained)
    qat_model.restore_ranges(ranges)
    qat_model.restore_steps(steps)
    return model, qat_model


def read_settings(path: PathLike) -> dict[str, Any]:
    """Returns the content of a run's `config.json`.

    Raises:
        RunError: if there is none.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise errors.RunError(f"{path}: no such run folder; `python -m embbert_tf.train` makes one")
    if not (path / CONFIG).exists():
        raise errors.RunError(f"{path}: not a run folder ({CONFIG} is missing)")
    return files.read_json(path / CONFIG)


def read_config(path: PathLike) -> AnyConfig:
    """Returns the sizes of a run's model, or of a backbone's.

    Raises:
        RunError: `config.json` is missing or does not say them.
    """
    settings = read_settings(path)
    try:
        return any_model.config_of(settings["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise errors.RunError(
            f"{pathlib.Path(path) / CONFIG}: not a configuration ({error})"
        ) from error


def read_labels(path: PathLike) -> list[str]:
    """Reads one label a line.

    Raises:
        RunError: if the file cannot be read.
    """
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise errors.RunError(f"{path}: cannot be read ({error})") from error


def write_labels(path: PathLike, labels: list[str]) -> None:
    """Writes one label a line, atomically.

    Raises:
        RunError: if a label contains a line break.
    """
    for label in labels:
        if "\n" in label or "\r" in label:
            raise errors.RunError(
                f"label {label!r} contains a line break, which labels.txt cannot hold"
            )
    text = "".join(f"{label}\n" for label in labels)
    files.write_text(path, text)
