"""Where the files lie that are no Python: the firmware's sources, and the model that comes along.

In a checkout they are where they are written; a wheel carries them as package data (setup.py).
"""

import pathlib

from embbert_tf import errors
from embbert_tf.data import files

_CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
_PACKAGED = pathlib.Path(__file__).resolve().parents[1] / "data"


def root() -> pathlib.Path:
    """Returns the folder that holds `tflm_app/`, `zoo/` and LICENSE.

    Raises:
        FileError: They are missing: the package was installed in part.
    """
    for candidate in (_CHECKOUT, _PACKAGED):
        if (candidate / "tflm_app/embbert/include/embbert.h").is_file():
            return candidate
    raise errors.FileError(
        f"{_PACKAGED}: the firmware's sources are missing; install the project again, or work in "
        "a checkout of it"
    )


def firmware() -> pathlib.Path:
    """Returns the folder `tflm_app/`; raises FileError as `root` does."""
    return root() / "tflm_app"


def model(path: files.PathLike) -> pathlib.Path:
    """Returns where a model folder lies: as the path says, or else among those that come along.

    Args:
        path: A model folder, or a name such as "zoo/snips", which is found from everywhere.
    """
    here = pathlib.Path(path)
    packaged = _PACKAGED / path
    known = not here.exists() and here.parts[:1] == ("zoo",)
    for candidate in (_CHECKOUT / path, packaged) if known else ():
        if candidate.is_dir():
            return candidate
    return here
