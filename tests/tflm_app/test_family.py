"""Every size of the family on the kernels and in the firmware, against the NumPy reference."""

import csv
import json
import re

import numpy as np
import pytest

from converters.kernels import int8_model, params, reference
from embbert_tf.model.config import PRESETS
from tests.support import external_memory
from tests.support.firmware_model import SENTENCES, TinyModel, made_words, make
from tests.support.kernel_harness import Case, build, check, params_of, run
from tests.support.kernel_models import Shape, random_input, random_model

FAMILY = ("nano", "tiny", "embbert", "medium", "big")
LENGTHS = (1, 2, 13, 40)
ODD_WIDTHS = ((4, 1), (20, 2), (36, 3), (100, 1))


def shape_of(preset: str, **fields) -> Shape:
    """The shape of a preset, but for its vocabulary and the number of its blocks."""
    config = PRESETS[preset]
    sizes = {
        "d": config.hidden_size,
        "r": config.reduced_size,
        "k": config.kernel_size,
        "e": config.expansion,
        "max_length": config.max_length,
    }
    return Shape(**(sizes | fields))


def case_of(shape: Shape, lengths, seed: int, extreme: bool = False) -> Case:
    """A random model of the shape, and an input of each length."""
    rng = np.random.default_rng(seed)
    model = random_model(shape, rng, extreme)
    return Case(params_of(model), [random_input(model, n, rng) for n in lengths], shape.max_length)


def widths() -> list[Case]:
    """Two blocks of each size: the first computes every row, the last one alone."""
    return [case_of(shape_of(preset), LENGTHS, seed) for seed, preset in enumerate(FAMILY)]


def padded_widths() -> list[Case]:
    """Hidden sizes that are no multiple of 16, with the channels that they get for the kernels."""
    cases = []
    for d, e in ODD_WIDTHS:
        rng = np.random.default_rng(d)
        model = int8_model.padded(random_model(Shape(d=d, e=e, r=4, k=5), rng))
        cases.append(Case(params_of(model), [random_input(model, n, rng) for n in LENGTHS], 256))
    return cases


def many_keys() -> list[Case]:
    """As many tokens as big takes, in narrow layers: weights of the softmax are halved there."""
    every_row = [
        case_of(Shape(d=16, r=4, k=4, max_length=1024), (512, 513), seed, extreme)
        for seed, extreme in enumerate((False, True))
    ]
    one_row = case_of(Shape(d=32, k=8, blocks=1, max_length=1024), (514, 1023, 1024), 2)
    # All rows alike, at the end of their range: the widest sum that a context can have.
    model = random_model(Shape(d=16, blocks=1, max_length=1024), np.random.default_rng(7))
    model.token[:] = 0
    model.position[:] = 0
    model.embed_bias[:] = -(10**7)
    alike = Case(params_of(model), [(np.zeros(n, int), None) for n in (512, 513, 1024)], 1024)
    return [*every_row, one_row, alike]


@pytest.mark.parametrize("cases", [widths, padded_widths, many_keys])
def test_kernels_on_the_host(cases, tmp_path):
    flags = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    _, _, results = run(build("host", tmp_path, flags), "host", cases(), tmp_path)
    check(cases(), results, "host")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cases", "target", "flags"),
    [
        (padded_widths, "mps2-an386", ()),
        (padded_widths, "mps3-an547", ()),
        (many_keys, "mps2-an386", ()),
        (many_keys, "mps3-an547", ()),
        (widths, "mps2-an386", ("-DARENA_BYTES=3600000",)),  # The M55's RAM is too small for it.
    ],
)
def test_kernels_on_boards(cases, target, flags, tmp_path):
    program = build(target, tmp_path, flags)
    for case in cases():  # One at a time: their weights share the board's memory.
        check([case], run(program, target, [case], tmp_path)[2], target)


@pytest.mark.parametrize(("d", "e"), ODD_WIDTHS)
def test_channels_of_zeros_change_no_answer(d, e, monkeypatch):
    """The NumPy kernels compute with any hidden size once nobody asks for a multiple of 16."""
    rng = np.random.default_rng(d)
    model = random_model(Shape(d=d, e=e, r=4, k=5), rng)
    wide = reference.Reference(int8_model.padded(model))
    assert wide.params.embed.hidden % 16 == 0
    monkeypatch.setattr(params, "_check_hidden", lambda *_: None)
    narrow = reference.Reference(model)
    for n in LENGTHS:
        ids, segments = random_input(model, n, rng)
        np.testing.assert_array_equal(narrow.infer(ids, segments), wide.infer(ids, segments))


def firmware_sizes(preset: str) -> dict[str, int]:
    """A preset as the firmware's random models are described."""
    config = PRESETS[preset]
    return {
        "d": config.hidden_size,
        "r": config.reduced_size,
        "e": config.expansion,
        "k": config.kernel_size,
        "blocks": config.num_layers,
        "max_length": config.max_length,
    }


def check_application(model: TinyModel, texts: list[str], folder, **board) -> None:
    """Every logit of the application equals the reference's."""
    rows, logits = folder / "rows.csv", folder / "logits.bin"
    with open(rows, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *((t, model.labels[0]) for t in texts)])
    result = make("eval", **board, IMAGE=model.path, CSV=rows, LOGITS=logits)
    assert result.returncode == 0, result.stdout + result.stderr
    ids = [model.ids(text)[: board.get("MAX_TOKENS")] for text in texts]
    want = np.stack([model.reference.infer(row) for row in ids])
    np.testing.assert_array_equal(np.fromfile(logits, np.int8).reshape(want.shape), want)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "target"),
    [(preset, "mps2-an386-16m") for preset in FAMILY if preset != "embbert"]  # which the zoo has
    + [(preset, "mps3-an547") for preset in ("medium", "big")],
)
def test_the_application_answers_as_the_reference(preset, target, tmp_path):
    """All layers and all positions; the image lies in the board's external memory."""
    model = TinyModel(tmp_path, **firmware_sizes(preset))
    board = {"TARGET": target}
    if target == "mps3-an547":
        board = {"BOARD_DIR": external_memory.cortex_m55(tmp_path)}
    check_application(model, SENTENCES[:4], tmp_path, **board)


def test_the_application_takes_1024_tokens(tmp_path):
    model = TinyModel(tmp_path, max_length=1024)
    words = made_words()
    texts = [" ".join(words[:count]) for count in (10, 120, 900)]
    lengths = [len(model.ids(text)) for text in texts]
    assert lengths[0] < 128
    assert 512 < lengths[1] < lengths[2] == 1024
    check_application(model, texts, tmp_path, TARGET="host")


@pytest.mark.slow
def test_nano_fits_256_kb_of_flash_and_16_kb_of_ram(tmp_path):
    """The whole application, its vocabulary of 2048 included, at 64 tokens; a text is cut there."""
    model = TinyModel(tmp_path, vocab_size=2048, **firmware_sizes("nano"))
    assert model.tokenizer.get_vocab_size() == 2048
    board = {"TARGET": "microbit", "IMAGE": model.path, "MAX_TOKENS": 64}
    result = make("size", **board, JSON=tmp_path / "size.json")
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "size.json").read_text())
    assert report["flash_bytes"] <= 256 * 1024
    assert report["ram_bytes"] <= 16 * 1024
    assert report["stack_bytes"] <= 1024  # of 2048
    texts = [*SENTENCES, " ".join(made_words()[:60])]
    assert len(model.ids(texts[-1])) > 64
    check_application(model, texts, tmp_path, TARGET="microbit", MAX_TOKENS=64)
    # All its 256 tokens are too many, and the message has the number that is not.
    result = make("program", TARGET="microbit", IMAGE=model.path)
    assert result.returncode != 0
    most = int(re.search(r"MAX_TOKENS=(\d+) or less fits", result.stderr)[1])
    assert most >= 64
    assert make("program", **(board | {"MAX_TOKENS": most})).returncode == 0
