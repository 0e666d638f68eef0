"""Firmware with weights of 4 bits: the board with 256 kB of flash, and what the program answers."""

import csv
import json

import numpy as np
import pytest

from converters.firmware import from_model_folder
from converters.firmware.model_image import Kind, section
from converters.kernels import recognize, reference
from converters.tflite import model_folder
from converters.zoo import layout
from embbert_tf.data import tokenizer
from tests.support.firmware_model import make

SMALL = layout.ROOT / "snips_small"
BOARD = "cortex-m4-256k"


@pytest.fixture(scope="module", name="folder")
def _folder():
    return model_folder.load(SMALL)


def test_the_image_holds_half_a_byte_a_weight(folder):
    image = from_model_folder.image_of(SMALL)
    model = recognize.extract(folder.tflite)
    assert len(section(image, Kind.EMBED_TOKEN)) == model.token.size / 2
    assert len(section(image, Kind.EMBED_WEIGHT)) == model.embed_w.size / 2
    for index, block in enumerate(model.blocks):
        for kind, weights in (
            (Kind.BLOCK_WQ, block.wq),
            (Kind.BLOCK_WV, block.wv),
            (Kind.BLOCK_WZ, block.wz),
        ):
            assert len(section(image, kind, index)) == weights.size / 2
        assert len(section(image, Kind.BLOCK_CONV, index)) == block.conv.size
    labels, hidden = model.head_w.shape
    assert labels % 2 == 1  # The last row is beside zeros.
    assert len(section(image, Kind.HEAD_WEIGHT)) == (labels + 1) / 2 * hidden


@pytest.mark.parametrize("target", ["host", "mps2-an386", BOARD])
def test_logits_are_those_of_the_reference(folder, target, tmp_path):
    texts = [pair[0] for pair in layout.CHECK_TEXTS]
    rows = tmp_path / "rows.csv"
    with open(rows, "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((t, folder.labels[0]) for t in texts)])
    logits = tmp_path / "logits.bin"
    result = make("eval", TARGET=target, MODEL=SMALL, CSV=rows, LOGITS=logits)
    assert result.returncode == 0, result.stdout + result.stderr
    kernels = reference.Reference(recognize.extract(folder.tflite))
    ids = [tokenizer.encode(folder.tokenizer, text, None, folder.max_length) for text in texts]
    want = np.stack([kernels.infer(row) for row in ids])
    np.testing.assert_array_equal(np.fromfile(logits, np.int8).reshape(want.shape), want)


@pytest.mark.slow
def test_half_the_flash_is_enough_for_4_bits_alone(tmp_path):
    """The linker script has 256 kB of flash and 64 kB of RAM, no more."""
    result = make("size", TARGET=BOARD, MODEL=SMALL, JSON=tmp_path / "size.json")
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "size.json").read_text())
    assert report["flash_bytes"] <= 256 * 1024
    assert report["ram_bytes"] <= 64 * 1024
    assert report["flash"]["weights"] <= 165_000
    result = make("run", TARGET=BOARD, MODEL=layout.ROOT / "snips", TEXT="play some quiet jazz")
    assert result.returncode != 0
    assert f"{BOARD} has too little flash" in result.stderr
