"""The backbone folder: pre-trained or imported weights, ready for fine-tuning.

| file | content |
| --- | --- |
| `config.json` | sizes, `"task": "backbone"`, and where the weights come from |
| `tokenizer.json` | the tokenizer the weights belong to |
| `backbone.keras` | an `EmbBertBackbone`, or a `BaselineBackbone` of another architecture |
"""

import dataclasses
import pathlib
from typing import Any

import tokenizers

from embbert_tf import errors
from embbert_tf.baselines.any_model import AnyConfig
from embbert_tf.data import files
from embbert_tf.data import tokenizer as tokenizer_lib
from embbert_tf.data.files import PathLike
from embbert_tf.model.config import EmbBertConfig
from embbert_tf.storage import packed_weights, run_folder

BACKBONE = "backbone.keras"
TASK = "backbone"


@dataclasses.dataclass(frozen=True)
class Backbone:
    """Weights to start a fine-tuning from.

    Attributes:
        path: The folder.
        config: Sizes of the model.
        tokenizer: Hugging Face tokenizer; use `embbert_tf.data.tokenizer.encode`.
        model: `EmbBertBackbone`, or `BaselineBackbone` of another architecture.
    """

    path: pathlib.Path
    config: AnyConfig
    tokenizer: tokenizers.Tokenizer
    model: Any


def load_backbone(path: PathLike) -> Backbone:
    """Reads a backbone folder, or the backbone of a finished run folder.

    Example:
    ```python
    import embbert_tf

    start = load_backbone("zoo/backbone")
    model = embbert_tf.EmbBertClassifier(start.config, num_labels=7)
    model.backbone.set_weights(start.model.get_weights())
    ```

    Raises:
        RunError: The folder or one of its files is missing or unreadable.
        TokenizerError: Its tokenizer cannot be used.
    """
    from tensorflow import keras  # Seconds to load; the writers below do without it.

    from embbert_tf.baselines import classifier  # noqa: F401
    from embbert_tf.model import backbone  # noqa: F401

    path = pathlib.Path(path)
    settings = run_folder.read_settings(path)
    if settings.get("task") != TASK:
        run = run_folder.load_run(path)
        return Backbone(path, run.config, run.tokenizer, run.model.backbone)
    config = run_folder.read_config(path)
    tokenizer = tokenizer_lib.load_tokenizer(path / run_folder.TOKENIZER)
    try:
        model = keras.models.load_model(path / BACKBONE, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise errors.RunError(f"{path / BACKBONE}: cannot be loaded ({error})") from error
    return Backbone(path, config, tokenizer, model)


def load_embbert(path: PathLike) -> Backbone:
    """Reads a backbone folder as `load_backbone` does, where another architecture does not serve.

    Raises:
        RunError: It holds one, or what `load_backbone` raises it for.
        TokenizerError: The tokenizer cannot be used.
    """
    config = run_folder.read_config(path)
    if not isinstance(config, EmbBertConfig):
        raise errors.RunError(
            f"{path}: holds {config.what}, and this takes an EmbBERT alone; "
            "`python -m embbert_tf.train --init` takes both"
        )
    return load_backbone(path)


def weights_path(path: PathLike) -> pathlib.Path:
    """Returns the file that `load_backbone` takes the weights from."""
    path = pathlib.Path(path)
    for name in (BACKBONE, run_folder.FP32, packed_weights.PACKED):
        if (path / name).exists():
            return path / name
    return path / run_folder.FP32


def save_backbone(
    path: PathLike, model: Any, tokenizer_path: PathLike, origin: dict[str, Any]
) -> None:
    """Writes a backbone folder; `config.json` last, so that a folder that has it is complete.

    Args:
        path: The folder; made if it does not exist.
        model: `EmbBertBackbone` or `BaselineBackbone`.
        tokenizer_path: `tokenizer.json` to copy.
        origin: What made the weights, for `config.json`.

    Raises:
        RunError: if the tokenizer has ids that the model's token table lacks.
        TokenizerError: if the tokenizer cannot be read.
        FileError: if the folder cannot be written.
    """
    path = pathlib.Path(path)
    check_tokenizer(tokenizer_path, model.config)
    files.make_folder(path)
    files.copy(tokenizer_path, path / run_folder.TOKENIZER)
    files.write_atomic(path / BACKBONE, lambda temporary: model.save(temporary))
    files.write_json(
        path / run_folder.CONFIG,
        {"config": model.config.to_dict(), "task": TASK, "origin": origin},
    )


def check_tokenizer(path: PathLike, config: AnyConfig) -> None:
    """Makes sure that a tokenizer yields no id beyond the model's token table.

    Raises:
        RunError: if it does.
        TokenizerError: if it cannot be read.
    """
    size = tokenizer_lib.load_tokenizer(path).get_vocab_size()
    if size > config.vocab_size:
        raise errors.RunError(
            f"{path}: {size} tokens for a token table of {config.vocab_size} rows; "
            "pass the tokenizer that the weights were trained with"
        )
