"""Small models that the firmware's tests share, so that its programs are built once a process."""

import pytest

from tests.support.firmware_model import TinyModel


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Four labels of single texts."""
    return TinyModel(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Four labels of pairs; other sizes than those of `tiny`."""
    return TinyModel(tmp_path_factory.mktemp("pairs"), pair=True, e=2, k=3, blocks=3, seed=2)
