"""Labels that an encoder learns on the device: a typed session, its table, and the NumPy twin."""

import struct
import subprocess
import zlib

import pytest

from converters.kernels import labels as labels_lib
from tests.support.encoder import Encoder
from tests.support.firmware_model import FIRMWARE, built, make

TAUGHT = [
    ("kitchen_light", "turn the lamp on"),
    ("music", "play a song"),
    ("timer", "wake me at seven"),
    ("kitchen_light", "light please"),
]
ASKED = ["turn on the kitchen light", "a song please", "seven", "größer", "lamp " * 40]


def session(target, program, lines, *words):
    """Types lines at the prompt of the program; returns what it said, a line each."""
    command = [program, *words, "prompt"]
    if target != "host":
        emulate = str(FIRMWARE / "boards/emulate.sh")
        command = [emulate, target, "600", *command]
    typed = "".join(f"{line}\n" for line in [*lines, ":quit"])
    result = subprocess.run(
        command, input=typed, capture_output=True, text=True, timeout=900, cwd=FIRMWARE
    )
    return result.returncode, result.stdout.replace("\r", "").split("\n")


@pytest.mark.parametrize("target", ["host", "mps2-an386"])
def test_a_session_teaches_saves_restarts_and_answers(tmp_path, target):
    encoder = Encoder(tmp_path)
    program = built(encoder, target)
    table = str(tmp_path / "my.labels")
    for label, text in TAUGHT:
        encoder.labels.learn(label, encoder.row(text))
    lines = [f":learn {label} {text}" for label, text in TAUGHT] + [":labels", ":save"]
    status, said = session(target, program, lines, f"labels={table}")
    text = "\n".join(said)
    assert status == 0 and "kitchen_light: 2 sentences" in text, text
    assert "3 of 20 labels, 96 bytes of RAM each" in text
    with open(table, "rb") as file:
        assert file.read() == encoder.labels.to_bytes()
    status, said = session(target, program, [*ASKED, ":forget timer", "seven"], f"labels={table}")
    text = "\n".join(said)
    assert status == 0 and "3 labels" in said[0]
    for asked in ASKED:
        assert f"> {encoder.said(asked)} (" in text, (asked, text)
    encoder.labels.forget("timer")
    assert f"> {encoder.said('seven')} (" in text


@pytest.mark.parametrize("target", ["host", "mps2-an386"])
def test_a_save_that_fails_leaves_what_was_saved_before(tmp_path, target):
    encoder = Encoder(tmp_path)
    program = built(encoder, target)
    table, folder = tmp_path / "my.labels", tmp_path / "folder"
    lines = [":learn music a song", ":save", ":learn timer seven", f":save {folder}"]
    folder.mkdir()
    status, said = session(target, program, lines, f"labels={table}")
    before = table.read_bytes()
    assert status == 0 and f"embbert: {folder}: cannot be written" in "\n".join(said)
    assert not (tmp_path / "folder.new").exists()
    (tmp_path / "my.labels.new").mkdir()  # in the way of what is written beside it
    lines = [":learn timer seven", ":save", f":save {'x' * 512}"]
    status, said = session(target, program, lines, f"labels={table}")
    text = "\n".join(said)
    assert f"embbert: {table}: cannot be written" in text and "the path is too long" in text
    assert table.read_bytes() == before
    (tmp_path / "my.labels.new").rmdir()
    status, said = session(target, program, lines[:2], f"labels={table}")
    assert len(table.read_bytes()) > len(before)
    assert sorted(path.name for path in tmp_path.glob("*.labels*")) == ["my.labels"]


def test_what_cannot_be_learnt_or_loaded_is_said(tmp_path):
    encoder = Encoder(tmp_path)
    program = built(encoder, "host")
    _, said = session(
        "host", program,
        [":forget none", f":learn {'x' * 24} a song", ":learn a", ":save", "hello"]
        + [f":learn label{i} a song" for i in range(21)]
        + [":learn label0 a song"] * 255,
    )  # fmt: skip
    text = "\n".join(said)
    for sentence in (
        "there is no label of that name",
        "a label's name has 1 to 23 bytes",
        "Write it as :learn label a sentence",
        "Write it as :save file",
        "no labels yet",
        "no room for one more label",
        "has learnt 255 sentences",
    ):
        assert sentence in text, sentence
    encoder.labels.learn("music", encoder.row("play a song"))
    whole = encoder.labels.to_bytes()
    broken = bytearray(whole)
    broken[-1] ^= 1
    other = Encoder(tmp_path, width=32)
    other.labels.learn("music", other.row("play a song"))
    for content, message in (
        (whole[:-1], "damaged"),
        (b"", "damaged"),
        (bytes(broken), "damaged"),
        (other.labels.to_bytes(), "of another model"),
    ):
        (tmp_path / "bad").write_bytes(content)
        status, said = session("host", program, [], f"labels={tmp_path / 'bad'}")
        assert status == 1 and message in said[0], said
    read = labels_lib.Labels.from_bytes(whole)
    assert read.to_bytes() == whole
    with pytest.raises(labels_lib.LabelError, match="damaged"):
        labels_lib.Labels.from_bytes(bytes(broken))


def sealed(table, at, content, longer=b""):
    """Returns the table with these bytes there and those at its end; size and checksum hold."""
    table = bytearray(table + longer)
    struct.pack_into("<I", table, 8, len(table))
    table[at : at + len(content)] = content
    crc = zlib.crc32(table[16:], zlib.crc32(table[:12]))
    struct.pack_into("<I", table, 12, crc)
    return bytes(table)


def test_a_table_made_to_harm_is_refused_though_its_checksum_holds(tmp_path):
    encoder = Encoder(tmp_path)
    result = make("program", TARGET="host", IMAGE=encoder.path, SANITIZE=1)
    assert result.returncode == 0, result.stdout + result.stderr
    program = result.stdout.splitlines()[-1]
    encoder.labels.learn("music", encoder.row("play a song"))
    whole, name = encoder.labels.to_bytes(), labels_lib.HEADER_BYTES
    assert sealed(whole, 0, b"EBLT") == whole
    word = struct.Struct("<I").pack
    for case, table in {
        "magic": sealed(whole, 0, b"EBMI"),
        "version": sealed(whole, 4, word(2)),
        "size beyond the file": sealed(whole, 8, word(len(whole) + 4)),
        "size below the header": sealed(whole, 8, word(16)),
        "labels that are not there": sealed(whole, 24, word(2)),
        "more labels than 32 bits of bytes hold": sealed(whole, 24, word(0xFFFFFFFF)),
        "no label": sealed(whole, 24, word(0)),
        "a header's last word": sealed(whole, 28, word(1)),
        "an empty name": sealed(whole, name, bytes(24)),
        "a name without an end": sealed(whole, name, b"x" * 24),
        "no sentence": sealed(whole, name + 24, bytes(2)),
        "256 sentences": sealed(whole, name + 24, b"\0\1"),
        "a sum above one sentence's": sealed(whole, name + 28, struct.pack("<h", 128)),
        "a sum below one sentence's": sealed(whole, name + 28, struct.pack("<h", -128)),
        "the least int16": sealed(whole, name + 28, struct.pack("<h", -32768)),
        "half a label more": sealed(whole, 0, b"EBLT", bytes(8)),
    }.items():
        (tmp_path / "bad").write_bytes(table)
        status, said = session("host", program, [], f"labels={tmp_path / 'bad'}")
        assert status == 1 and "damaged" in said[0], (case, said)
        with pytest.raises(labels_lib.LabelError, match="damaged"):
            labels_lib.Labels.from_bytes(table)
    # Every sum at the bound of 254 sentences, to which one more is added.
    most = struct.pack("<2H", 254, 0) + struct.pack("<h", 254 * 127) * encoder.labels.width
    most = sealed(whole, name + 24, most)
    (tmp_path / "most").write_bytes(most)
    lines = ["a song", ":learn music a song", *ASKED]
    status, said = session("host", program, lines, f"labels={tmp_path / 'most'}")
    assert status == 0 and "1 label" in said[0], said
    learnt = labels_lib.Labels.from_bytes(most, encoder.labels.threshold)
    encoder.labels = learnt
    assert f"> {encoder.said('a song')} (" in "\n".join(said)
