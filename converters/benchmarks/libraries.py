"""TFLM's libraries that benchmarks are given: --library=BOARD=FILE, once for each."""

import pathlib
from collections.abc import Sequence

from absl import app, flags

Library = tuple[str, pathlib.Path]  # board of tflm_app, and the library for its core


def define_flags(values: flags.FlagValues) -> None:
    """Defines --library, and --tflm_dir, which goes with it."""
    flags.DEFINE_string("tflm_dir", None, "TFLM's headers.", flag_values=values)
    flags.DEFINE_multi_string(
        "library",
        None,
        "BOARD=libtensorflow-microlite.a; once for each library.",
        flag_values=values,
    )


def given(libraries: Sequence[str] | None, tflm_dir: str | None) -> list[Library]:
    """Returns the libraries.

    Args:
        libraries: As --library has them; None for none.
        tflm_dir: As --tflm_dir has it.

    Raises:
        UsageError: One has no board or no file, or the headers are not said.
    """
    pairs = [pair.partition("=") for pair in libraries or ()]
    for board, _, library in pairs:
        if not library:
            raise app.UsageError(f"say --library=BOARD=FILE, not --library={board}")
    if pairs and not tflm_dir:
        raise app.UsageError("--library needs --tflm_dir, the headers that it was built from")
    return [(board, pathlib.Path(library)) for board, _, library in pairs]
