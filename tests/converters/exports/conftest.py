"""The zoo's model, which every ecosystem's example has to run."""

import pytest

from converters.firmware import from_model_folder
from tests.support.exports import SENTENCE, Case
from tests.support.firmware_model import ROOT, make


@pytest.fixture(scope="session")
def snips(made_once):
    """zoo/snips, with what `make run` answers on the emulated Cortex-M4."""

    def fill(folder):
        (folder / "snips.bin").write_bytes(from_model_folder.image_of(ROOT / "zoo/snips", "snips"))
        done = make("run", TARGET="mps2-an386", MODEL="zoo/snips", TEXT=SENTENCE)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "answer.txt").write_text(done.stdout.splitlines()[0])

    folder = made_once("snips", fill)
    answer = (folder / "answer.txt").read_text()
    assert answer.startswith("PlayMusic ")
    return Case("snips", (folder / "snips.bin").read_bytes(), f"{SENTENCE}\n", [answer])
