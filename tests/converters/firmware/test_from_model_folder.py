"""From a model folder, or a model that was never saved, to the firmware's files."""

import dataclasses
import json
import re

import numpy as np
import pytest

from converters.firmware import from_model_folder, model_image
from converters.kernels import recognize, reference
from converters.tflite import model_folder, writer
from embbert_tf import errors
from tests.support import portable_models, tflm_models
from tests.support.firmware_model import SENTENCES, make
from tests.support.runs import run_command

FILES = ["model_image.bin", "model_image.c", "model_shape.h"]


@pytest.fixture
def folder(tmp_path):
    tflm_models.write_folder(tmp_path / "my model")
    return tmp_path / "my model"


def test_command_and_library_write_the_same(folder, tmp_path):
    done = run_command(
        "converters.generate_firmware",
        f"--model_folder={folder}",
        f"--output_folder={tmp_path}/a b",
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "a b").iterdir()) == FILES
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a b").iterdir()}
    from_model_folder.write_firmware(model_folder.load(folder), tmp_path / "a b")
    assert times == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a b").iterdir()}
    done = run_command(
        "converters.generate_firmware", f"--image={tmp_path}/a b/model_image.bin",
        f"--output_folder={tmp_path}/again",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "a b" / name).read_bytes()


def test_model_that_was_never_saved(folder, tmp_path):
    saved = model_folder.load(folder)
    unsaved = dataclasses.replace(saved, path=None)
    from_model_folder.write_firmware(unsaved, tmp_path / "out", name="a name")
    image = (tmp_path / "out" / "model_image.bin").read_bytes()
    assert image == from_model_folder.image_of(saved, "a name")
    assert b"a name" in model_image.section(image, model_image.Kind.SOURCE)


def test_model_of_any_file_name(folder):
    before = from_model_folder.image_of(folder)
    settings = json.loads((folder / "model.json").read_text())
    (folder / "model.tflite").rename(folder / "other.tflite")
    (folder / "model.json").write_text(json.dumps({**settings, "file": "other.tflite"}))
    assert from_model_folder.image_of(folder) == before


@pytest.mark.slow
def test_what_does_not_fit_is_named(folder, tmp_path):
    with pytest.raises(errors.FileError, match=r"model_image\.c"):
        from_model_folder.write_firmware(folder, folder / "model.tflite" / "model_image.c")
    settings = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**settings, "confidence_threshold": "half"}))
    with pytest.raises(from_model_folder.FirmwareError, match="confidence_threshold"):
        from_model_folder.image_of(folder)
    (folder / "model.json").write_text(json.dumps({**settings, "confidence_threshold": 7}))
    with pytest.raises(from_model_folder.FirmwareError, match=r"model\.tflite: .* not within 0..1"):
        from_model_folder.image_of(folder)
    (folder / "model.json").write_text(json.dumps(settings))
    (folder / "labels.txt").write_text("one\ntwo\n")
    with pytest.raises(from_model_folder.FirmwareError, match="2 labels for 4 logits"):
        from_model_folder.image_of(folder)
    other = portable_models.build(portable_models.random_folded(portable_models.SMALL), 48).graph
    other.ops[-1].kind = "TANH"
    strange = dataclasses.replace(model_folder.load(folder), tflite=writer.write(other))
    with pytest.raises(from_model_folder.FirmwareError, match="convert it with"):
        from_model_folder.write_firmware(strange, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("labels", "pair"), [pytest.param(2, True, marks=pytest.mark.slow), (500, False)]
)
def test_few_and_many_labels_on_the_host(labels, pair, tmp_path):
    tflite = tflm_models.write_folder(tmp_path / "my model", labels=labels, pair=pair)
    texts = ["light", " ".join(SENTENCES[:3] * 700)]
    kernels = reference.Reference(recognize.extract(tflite))
    model = model_folder.load(tmp_path / "my model")
    for text in texts:
        second = SENTENCES[1] if pair else None
        ids = model.encode(text, second)
        segments = portable_models.tokenizer.segment_ids(ids)
        expected = int(np.argmax(kernels.infer(ids, segments)))
        said = text if second is None else f"{text} ||| {second}"
        done = make("run", MODEL=tmp_path / "my model", TARGET="host", TEXT=said)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(rf"\blabel {expected}\b", done.stdout), done.stdout
