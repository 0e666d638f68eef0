"""The model image: Python writes it, C reads it, and damage never passes."""

import dataclasses
import pathlib
import struct
import subprocess
import zlib

import numpy as np
import pytest

from converters.firmware import c_files, model_image
from converters.firmware.model_image import Kind, Section
from converters.kernels import params as params_lib
from tests.support.firmware_model import FIRMWARE, LABELS, TinyModel, make, tiny_tokenizer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return TinyModel(tmp_path_factory.mktemp("tiny"))


def test_sections_come_back_as_they_were(tiny):
    sections = [Section(Kind.LABELS, 0, b"a\0"), Section(Kind.BLOCK_WQ, 3, bytes(range(33)))]
    image = model_image.pack(sections)
    assert len(image) % 16 == 0
    assert model_image.unpack(image) == sections
    for entry in range(2):
        _, _, offset, size = struct.unpack_from("<4I", image, 32 + 16 * entry)
        assert offset % 16 == 0
        assert image[offset : offset + size] == sections[entry].data


def test_checksum_is_zlibs_over_all_but_itself(tiny):
    (stored,) = struct.unpack_from("<I", tiny.image, 12)
    assert stored == zlib.crc32(tiny.image[:12] + tiny.image[16:])


def test_damaged_image_is_refused_in_python(tiny):
    for at in (0, 5, 9, 13, 40, len(tiny.image) - 1):
        damaged = bytearray(tiny.image)
        damaged[at] ^= 1
        with pytest.raises(model_image.ModelImageError):
            model_image.unpack(bytes(damaged))


def test_every_part_of_the_model_is_in_the_image(tiny):
    model = tiny.model
    assert model_image.section(tiny.image, Kind.EMBED_TOKEN) == model.token.tobytes()
    params = params_lib.model_params(model)
    for i, block in enumerate(params.blocks):
        assert model_image.section(tiny.image, Kind.BLOCK_OPTIONS, i) == block.options()
        for name, array in block.tensors().items():
            data = model_image.section(tiny.image, Kind[f"BLOCK_{name.upper()}"], i)
            assert data == array.tobytes()
            assert len(data) > 0
    assert model_image.section(tiny.image, Kind.LABELS).decode().split("\0")[:-1] == LABELS
    shape = model_image.shape(tiny.image)
    assert (shape.labels, shape.max_length, shape.hidden) == (4, 32, 16)
    assert shape.blocks == ((1, 4), (1, 1))


def test_confidence_table_is_the_softmax_numerator():
    table = model_image.confidence_table(0.05)
    assert table[0] == 65536
    np.testing.assert_allclose(table[:100] / 65536, np.exp(-0.05 * np.arange(100)), atol=1e-5)


def test_labels_that_do_not_fit_are_named(tiny):
    source = model_image.ImageSource("x", "", "")
    _, _, tables = tiny_tokenizer()
    for labels, words in ((["a"], "1 labels for 4 logits"), (["a", "b", "c", ""], "empty")):
        with pytest.raises(model_image.ModelImageError, match=words):
            model_image.build(tiny.model, tables, labels, source)
    with pytest.raises(model_image.ModelImageError, match="threshold"):
        model_image.build(tiny.model, tables, LABELS, source, threshold=1.5)
    one = dataclasses.replace(
        tiny.model, labels=1, head_w=tiny.model.head_w[:1], head_bias=tiny.model.head_bias[:1]
    )
    with pytest.raises(model_image.ModelImageError, match="one logit"):
        model_image.build(tiny.model, tables, LABELS, source, task="regression")
    assert model_image.build(one, tables, ["score"], source, task="regression")


def test_generated_c_says_what_made_it(tiny):
    text = c_files.c_source(tiny.image)
    assert c_files.GENERATOR in text
    assert model_image.ImageSource.of("", b"{}", b"").model_sha256 in text
    words = [int(word, 16) for word in text.split("{")[1].split("}")[0].replace(",", " ").split()]
    assert struct.pack(f"<{len(words)}I", *words) == tiny.image


def test_damaged_file_of_an_image_is_named(tiny, tmp_path):
    path = tmp_path / "x.bin"
    for content, words in (
        (tiny.image[:-1], "where the header says"),
        (model_image.pack([Section(99, 0, b"")]), "section 0 is of kind 99"),
        (model_image.pack([]), "a section is missing"),
    ):
        path.write_bytes(content)
        with pytest.raises(model_image.ModelImageError, match=words) as error:
            model_image.read(path)
        assert str(error.value).startswith(str(path))


def test_unusable_model_folder_is_explained(tmp_path):
    result = make("image", MODEL=tmp_path / "nothing")
    assert result.returncode != 0
    assert "nothing: no model folder, model.json is missing" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_damage_anywhere_is_refused_on_the_host(tiny, tmp_path):
    program = tmp_path / "image_test"
    sources = ["tests/image_test.c", *sorted((FIRMWARE / "embbert/src").rglob("*.c"))]
    flags = ["-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(
        ["gcc", *flags, "-DEMBBERT_FORCE_PORTABLE", "-Iembbert/include", "-o", program, *sources],
        cwd=FIRMWARE,
        check=True,
    )
    result = subprocess.run([program, tiny.path], capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    print(result.stdout)
    assert int(result.stdout.split()[0]) > len(tiny.image)


def test_damage_is_refused_on_the_device(tiny, tmp_path):
    built = make("program", TARGET="mps2-an386", IMAGE=tiny.path)
    assert built.returncode == 0, built.stdout + built.stderr
    elf = pathlib.Path(built.stdout.splitlines()[-1]).read_bytes()
    start = elf.index(tiny.image)
    rng = np.random.default_rng(5)
    places = [0, 4, 8, 12, 16, len(tiny.image) - 1, *rng.integers(0, len(tiny.image), 6)]
    damaged = tmp_path / "damaged.elf"
    for at in places:
        changed = bytearray(elf)
        changed[start + int(at)] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(changed)
        result = subprocess.run(
            ["boards/emulate.sh", "mps2-an386", "600", damaged, "run", "turn on the light"],
            cwd=FIRMWARE,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 1, f"byte {at}: {result.stdout}"
        assert result.stdout.startswith("embbert: model image: "), result.stdout
        assert result.stdout.count("\n") == 1
