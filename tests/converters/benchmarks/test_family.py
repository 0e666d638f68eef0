"""What every size of the family needs on a board."""

import csv
import re

import pytest

from converters.benchmarks import family
from embbert_tf import errors
from tests.support.firmware_model import made_words
from tests.support.runs import run_command


def write(path, words) -> str:
    """Writes a CSV of two labels, eight words a text."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = [(" ".join(words[i : i + 8]), "ab"[i // 8 % 2]) for i in range(0, len(words), 8)]
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


def test_too_little_text_is_explained(tmp_path):
    texts = write(tmp_path / "texts.csv", made_words()[:80])
    with pytest.raises(errors.OptionError, match=r"its texts make \d+ tokens, and big has 16384"):
        family.train("big", texts, 8, tmp_path / "big")


@pytest.mark.parametrize("flag", ["--presets=nano,huge", "--bits=3", "--presets="])
def test_unknown_sizes_and_bits_are_explained(flag):
    done = run_command("converters.benchmarks.family", "--texts=texts.csv", flag)
    assert done.returncode == 1
    assert f"{flag}: say some of " in done.stdout + done.stderr


@pytest.mark.slow
def test_the_smallest_size_of_4_bits(tmp_path):
    texts = write(tmp_path / "texts.csv", made_words() * 2)
    arguments = ["--presets=nano", "--bits=4", f"--output={tmp_path / 'out'}"]
    done = run_command("converters.benchmarks.family", f"--texts={texts}", *arguments)
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["nano", "4 bits", "65,856"]
    flash, *ram = (int(cell.replace(",", "")) for cell in cells[4:8])
    assert flash < 110_000
    # A token takes two activations a channel, its id, and a score for each of two rows at a time.
    assert ram[0] < ram[1] < ram[2] < 64 * 1024
    assert all(re.fullmatch(r"\d+\.\d\d M", cell) for cell in cells[8:])
