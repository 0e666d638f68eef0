"""The real data sets, where they are at hand."""

import os
import pathlib

MISSING = "the data sets are not at hand: EMBBERT_DATA=<their folder>"


def folder() -> pathlib.Path | None:
    """Where EMBBERT_DATA says the data sets lie; None where it says nothing."""
    setting = os.environ.get("EMBBERT_DATA")
    if not setting:
        return None
    path = pathlib.Path(setting)
    # A test that was to read them and silently does not would look like one that passes.
    assert path.is_dir(), f"EMBBERT_DATA={setting}: no such folder"
    return path
