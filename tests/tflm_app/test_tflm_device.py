"""The app on TFLM in the emulator, against the host's TFLM and the NumPy reference, to the bit.

Needs TFLM for Cortex-M (docs/tflm.md): TFLM_DIR and TFLM_LIB in the environment, TFLM_TARGET for
the board that the library is for (default mps2-an386).
"""

import os
import pathlib
import subprocess

import numpy as np
import pytest

from converters.firmware import size_arena
from converters.kernels import recognize, reference
from converters.tflite import model_folder
from converters.tflm import runner
from embbert_tf.data import tokenizer
from tests.support import tflm_models
from tests.support.firmware_model import SENTENCES

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = os.environ.get("TFLM_TARGET", "mps2-an386")

pytestmark = pytest.mark.skipif(
    not (os.environ.get("TFLM_DIR") and os.environ.get("TFLM_LIB")),
    reason="TFLM for Cortex-M is the user's to bring: set TFLM_DIR and TFLM_LIB (docs/tflm.md)",
)


def make(folder, graph, *arguments, check=True):
    command = ["make", "-s", "-C", str(ROOT / "tflm_app"), "RUNTIME=tflm", f"TARGET={TARGET}"]
    command += [f"MODEL={folder}", f"GRAPH={graph}"]
    for name in ("TFLM_DIR", "TFLM_LIB"):
        command.append(f"{name}={pathlib.Path(ROOT, os.environ[name]).resolve()}")
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, timeout=900
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def write_model(pair):
    # In the repository's ignored build folder, so that the next run finds the objects.
    folder = ROOT / "build" / "tests" / f"tflm_{'pair' if pair else 'single'}"
    tflm_models.write_folder(folder, pair=pair)
    rows = [f'"{text.replace(chr(34), chr(34) * 2)}"' for text in SENTENCES]
    if pair:
        header = "text,text_pair,label"
        lines = [f"{a},{b},one" for a, b in zip(rows, rows[::-1], strict=True)]
    else:
        header, lines = "text,label", [f"{a},one" for a in rows]
    (folder / "texts.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return model_folder.load(folder)


@pytest.fixture(scope="module", params=[False, True], ids=["single", "pair"])
def model(request):
    return write_model(request.param)


@pytest.fixture(scope="module")
def single():
    return write_model(False)


def sequences(model):
    pairs = SENTENCES[::-1] if model.pair else [None] * len(SENTENCES)
    return [model.encode(a, b) for a, b in zip(SENTENCES, pairs, strict=True)]


def device_logits(model, graph, tmp_path):
    logits = tmp_path / "logits.bin"
    make(model.path, graph, "eval", f"CSV={model.path / 'texts.csv'}", f"LOGITS={logits}")
    return np.fromfile(logits, np.int8).reshape(len(SENTENCES), len(model.labels))


def test_portable_equals_the_hosts_tflm(model, tmp_path):
    wanted = runner.run_all(model, sequences(model))
    np.testing.assert_array_equal(device_logits(model, "portable", tmp_path), wanted)


def test_fused_equals_the_reference(model, tmp_path):
    expected = reference.Reference(recognize.extract(model.tflite))
    wanted = [expected.infer(ids, tokenizer.segment_ids(ids)) for ids in sequences(model)]
    np.testing.assert_array_equal(device_logits(model, "fused", tmp_path), wanted)


@pytest.mark.parametrize("graph", ["portable", "fused"])
def test_arena_that_is_too_small_is_an_error_and_no_hang(single, graph):
    text = make(single.path, graph, "arena").stdout
    needed = int(text.split("MODEL_ARENA_BYTES")[1].split("u")[0])
    for arena in (0, 1, 16, 1000, needed // 2, needed - 16, needed - 1):
        done = make(
            single.path, graph, f"ARENA_BYTES={arena}", "TIMEOUT=60", "run", "TEXT=x", check=False
        )
        assert done.returncode != 0
        assert f"the arena has {arena} bytes, the model needs {needed}" in done.stdout, arena
    done = make(single.path, graph, f"ARENA_BYTES={needed}", "run", "TEXT=x")
    assert "%" in done.stdout


def test_trial_below_the_smallest_arena_fails_and_ends(single):
    make(single.path, "fused", "arena")
    paths = make(single.path, "fused", "tflm_paths").stdout
    out = pathlib.Path(paths.split('"out": "')[1].split('"')[0])
    smallest = int((out / "arena_size.h").read_text().split("correctly: ")[1].split()[0])
    trial = size_arena.Trial(out / "trial" / "trial.elf", TARGET)
    assert trial.run(smallest, 4) is not None
    assert trial.run(smallest - 32) is None
