"""Every model that `zoo/` ships: small enough, whole, and usable as run and as model folder.

That a shipped file or arena does not grow is held in test_convert_regression.py.
"""

import csv
import pathlib

import pytest

from converters.evaluation import evaluation
from converters.firmware import c_files, from_model_folder, model_image
from converters.tflite import model_folder
from converters.zoo import layout
from embbert_tf.storage import backbone_folder, run_folder
from tests.support.runs import run_command

FOLDERS = layout.folders()
BACKBONE = layout.ROOT / layout.BACKBONE


def one_of_each_kind() -> list[pathlib.Path]:
    """The first folder of each kind of task: labels or a score, of a text or of a pair."""
    kinds = {}
    for path in FOLDERS:
        settings = run_folder.read_settings(path)
        kinds.setdefault((settings["task"], settings["pair"]), path)
    return list(kinds.values())


@pytest.fixture(params=FOLDERS or [None], ids=lambda path: path.name if path else "none")
def folder(request):
    if request.param is None:
        pytest.skip("zoo/ holds no model yet (python -m converters.zoo.add makes one)")
    return request.param


def test_is_small_and_known(folder):
    assert layout.folder_bytes(folder) <= layout.MAX_BYTES
    if layout.read_record(folder)["origin"].get("training", {}).get("width"):
        # An encoder has no labels to be measured by; its table is that of shots.
        assert f"`{folder.name}/`" in (layout.ROOT / "README.md").read_text()
        return
    assert folder.name in layout.TASKS
    assert f"\n| {folder.name} |" in (layout.ROOT / "README.md").read_text(), "missing in the table"


def test_figures_are_those_recorded(folder):
    """Within 3 % either way; beyond that the record is of another file."""
    from converters.tflm import arena_probe

    sizes = layout.read_record(folder)["sizes"]
    file = (folder / model_folder.TFLITE).stat().st_size
    arena = arena_probe.measure(folder / model_folder.TFLITE)["smallest_bytes"]
    assert file == pytest.approx(sizes["file"], rel=0.03)
    assert arena == pytest.approx(sizes["arena"], rel=0.03)


def test_gives_the_recorded_logits(folder):
    checks = layout.read_record(folder)["checks"]
    assert len(checks["texts"]) >= 3
    found = evaluation.check_logits(model_folder.load(folder), checks["texts"])
    assert found == checks["logits"]


def test_covers_its_validation_texts(folder):
    record = layout.read_record(folder)
    assert model_folder.load(folder).max_length == record["max_length"]
    assert record["covered"] >= 0.995 or record["max_length"] == 256


def test_rounding_costs_nothing(folder):
    """Packed weights: of fp32 at most a row in 300 changes sides, or 0.003 of a correlation.

    Of QAT as much as chance brings. There a weight that is off by 2^-13 of itself can meet the next
    step of an int8 grid, and 2 % of the texts, which lie at a border, fall to either side of it:
    the sum of their steps has a standard deviation of sqrt(0.02 n) rows. Damage would be far more.
    """
    rounding = layout.read_record(folder)["rounding"]
    allowed = {"fp32": 1 / 300, "qat": max(1 / 300, 2 * (0.02 / rounding["count"]) ** 0.5)}
    for kind, most in allowed.items():
        for metric, (before, after) in rounding[kind].items():
            if metric in ("accuracy", "pearson", "spearman"):
                assert after >= before - most, (kind, metric)


@pytest.mark.slow
@pytest.mark.parametrize("folder", one_of_each_kind(), ids=lambda path: path.name)
def test_converts_to_another_length(folder, tmp_path):
    run = run_folder.load_run(folder)
    assert run.qat_model is not None
    shipped = model_folder.load(folder)
    length = 96 if shipped.max_length != 96 else 64
    data = tmp_path / "texts.csv"
    label = run.labels[0] if run.labels else "0"
    columns = ("text", "text_pair", "label") if run.pair else ("text", "label")
    with open(data, "w", newline="") as file:
        rows = [(*(pair if run.pair else pair[:1]), label) for pair in layout.CHECK_TEXTS]
        csv.writer(file).writerows([columns, *rows])
    done = run_command(
        "converters.convert_tflite", f"--run={folder}", f"--calibration={data}",
        f"--max_length={length}", "--recipe=qat", f"--output={tmp_path / 'model.tflite'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = model_folder.load(tmp_path)
    assert (made.max_length, made.labels, made.pair) == (length, shipped.labels, shipped.pair)
    assert len(evaluation.check_logits(made, layout.CHECK_TEXTS)) == len(layout.CHECK_TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("folder", one_of_each_kind(), ids=lambda path: path.name)
def test_becomes_firmware(folder):
    image = from_model_folder.image_of(folder)
    assert model_image.shape(image).max_length == model_folder.load(folder).max_length
    assert "model_image_data" in c_files.c_source(image)


def test_backbone_starts_a_training():
    if not BACKBONE.is_dir():
        pytest.skip("zoo/ holds no backbone yet")
    start = backbone_folder.load_backbone(BACKBONE)
    assert start.tokenizer.get_vocab_size() <= start.config.vocab_size
    assert start.model.count_params() == 357_248
    assert layout.folder_bytes(BACKBONE) <= layout.MAX_BYTES
