"""Where the firmware's sources are: in a checkout, in a wheel, and nowhere."""

import pytest

from converters.firmware import sources
from embbert_tf import errors
from tests.support.runs import ROOT


def test_a_checkout_has_them_where_they_are_written(monkeypatch, tmp_path):
    assert sources.root() == ROOT and sources.firmware() == ROOT / "tflm_app"
    monkeypatch.chdir(tmp_path)
    assert sources.model("zoo/snips") == ROOT / "zoo/snips"
    # What the user has comes first; other names stay as they are.
    (tmp_path / "zoo/snips").mkdir(parents=True)
    for name in ("zoo/snips", "zoo/none", "build/model"):
        assert str(sources.model(name)) == name


def test_a_wheel_has_them_beside_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "_CHECKOUT", tmp_path / "site-packages")
    monkeypatch.setattr(sources, "_PACKAGED", tmp_path / "data")
    with pytest.raises(errors.FileError, match="sources are missing; install the project again"):
        sources.firmware()
    (tmp_path / "data/zoo/snips").mkdir(parents=True)
    header = tmp_path / "data/tflm_app/embbert/include/embbert.h"
    header.parent.mkdir(parents=True)
    header.touch()
    monkeypatch.chdir(tmp_path)
    assert sources.firmware() == tmp_path / "data/tflm_app"
    assert sources.model("zoo/snips") == tmp_path / "data/zoo/snips"
