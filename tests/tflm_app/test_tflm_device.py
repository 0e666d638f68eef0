"""The app on TFLM in the emulator, against the host's TFLM and the NumPy reference, to the bit.

Needs TFLM for Cortex-M (docs/tflm.md): TFLM_DIR and TFLM_LIB in the environment, TFLM_TARGET for
the board that the library is for (default mps2-an386).
"""

import json
import os
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

import converters
from converters.firmware import size_arena
from converters.kernels import fused_graph, recognize, reference
from converters.tflite import model_folder
from converters.tflm import runner
from embbert_tf.data import tokenizer
from tests.embbert_tf.baselines.test_baselines import small
from tests.support import tflm_models, untrained_run
from tests.support.firmware_model import SENTENCES

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = os.environ.get("TFLM_TARGET", "mps2-an386")

pytestmark = pytest.mark.skipif(
    not (os.environ.get("TFLM_DIR") and os.environ.get("TFLM_LIB")),
    reason="TFLM for Cortex-M is the user's to bring: set TFLM_DIR and TFLM_LIB (docs/tflm.md)",
)


def make(folder, graph, *arguments, check=True, target=TARGET):
    command = ["make", "-s", "-C", str(ROOT / "tflm_app"), "RUNTIME=tflm", f"TARGET={target}"]
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
        lines = [f"{a},{b},label 0" for a, b in zip(rows, rows[::-1], strict=True)]
    else:
        header, lines = "text,label", [f"{a},label 0" for a in rows]
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


@pytest.mark.parametrize("name", ["bert", "nano_bert", "bert_ne_ea", "mamba", "embedder_conv"])
def test_compared_models_equal_the_host(name, tmp_path):
    folder = ROOT / "build" / "tests" / f"tflm_{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    texts = untrained_run.write(folder, small(name))
    compared = converters.convert(folder / "run", calibration=folder / "data.csv", recipe="mse")
    compared.save(folder / "model")
    logits = tmp_path / "logits.bin"
    make(folder / "model", "portable", "eval", f"CSV={folder / 'data.csv'}", f"LOGITS={logits}")
    said = np.fromfile(logits, np.int8).reshape(len(texts), 2)
    wanted = runner.run_all(compared, [compared.encode(text) for text in texts])
    np.testing.assert_array_equal(said, wanted)
    assert len(np.unique(wanted, axis=0)) > 10


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
    # TFLM's messages as one line, or none where they are compiled out.
    assert "\r" not in trial.last_words
    assert re.fullmatch(r"embbert: [^;]+(; [^;]+)*", trial.last_words), trial.last_words


def test_operators_in_a_program_of_ones_own(single):
    """They answer as the reference, and refuse a model whose array is not aligned."""
    program = make(single.path, "fused", "operators_test").stdout.splitlines()[-1]

    def run(offset):
        emulate = [ROOT / "tflm_app/boards/emulate.sh", TARGET, "60", program, str(offset)]
        return subprocess.run(emulate, capture_output=True, text=True, check=False, timeout=90)

    ids = [2, 7, 12]
    wanted = reference.Reference(recognize.extract(single.tflite)).infer(
        ids, tokenizer.segment_ids(ids)
    )
    for offset in (0, 4):
        assert [int(word) for word in run(offset).stdout.split()] == list(wanted)
    for offset in (1, 2, 3):
        done = run(offset)
        assert done.returncode == 4
        assert "the model's array is not aligned; declare it alignas(16)" in done.stdout


@pytest.mark.parametrize("graph", ["portable", "fused"])
def test_stack_of_size_is_not_below_what_commands_use(single, graph, tmp_path):
    report = tmp_path / "size.json"
    make(single.path, graph, "size", f"JSON={report}")
    found = json.loads(report.read_text())
    assert 0 < found["stack_measured"] <= found["stack_bytes"] <= found["ram"]["stack"]
    bench = make(single.path, graph, "bench").stdout
    assert int(re.search(r"stack used ([\d,]+)", bench)[1].replace(",", "")) <= found["stack_bytes"]
    # A row for the most tokens that the model takes, too.
    assert [json.loads(line)["n"] for line in bench.splitlines() if '"n": ' in line] == [
        8, 12, 16, 32, 48,
    ]  # fmt: skip


def test_bench_of_texts_longer_than_the_vocabulary(tmp_path):
    folder = tmp_path / "long"
    tflm_models.write_folder(folder, length=512)
    assert '"n": 512' in make(folder, "fused", "bench").stdout


def test_fused_operators_read_weights_of_4_bits():
    """The fused file has half the bytes, and answers as the firmware without TFLM does."""
    folder, text = ROOT / "zoo/snips_small", "TEXT=play some quiet jazz"
    command = ["make", "-s", "-C", ROOT / "tflm_app", f"TARGET={TARGET}", f"MODEL={folder}"]
    plain = subprocess.run([*command, "run", text], capture_output=True, text=True, check=True)
    fused = make(folder, "fused", "run", text)
    # The first build measures the arena and says so before the answer.
    assert plain.stdout.splitlines()[0] in fused.stdout.splitlines()[:2]
    portable = (folder / "model.tflite").read_bytes()
    assert len(fused_graph.fuse(portable)) < 0.6 * len(portable)


needs_m4 = pytest.mark.skipif(
    TARGET != "mps2-an386",
    reason="the boards with little RAM are Cortex-M4: TFLM_TARGET is another",
)


@needs_m4
def test_board_with_little_ram(tmp_path):
    """The arena is sized elsewhere; what is too much for the board is said."""
    make(ROOT / "zoo/snips", "fused", "size", f"JSON={tmp_path / 's'}", target="cortex-m4-64k")
    assert json.loads((tmp_path / "s").read_text())["ram_bytes"] < 32 * 1024
    arguments = ("run", "TEXT=play some jazz")
    done = make(ROOT / "zoo/snips", "fused", *arguments, target="cortex-m4-64k")
    assert done.stdout.startswith("PlayMusic ")
    done = make(
        ROOT / "zoo/snips", "fused", "ARENA_BYTES=60000", *arguments, target="cortex-m4-64k",
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "cortex-m4-64k has too little RAM" in done.stderr
    assert "the arena takes 60000 bytes; GRAPH=fused takes the least" in done.stderr


@needs_m4
def test_board_that_no_emulator_knows(single, tmp_path):
    board = tmp_path / "my_board"
    shutil.copytree(ROOT / "tflm_app/boards/cortex-m4-64k", board)
    text = (board / "board.mk").read_text()
    (board / "board.mk").write_text(text.replace("MACHINE := mps2-an386\n", ""))
    done = make(single.path, "fused", f"BOARD_DIR={board}", "size")
    assert "stack: not computed" in done.stdout
