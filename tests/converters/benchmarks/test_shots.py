"""The table of shots, as its command prints it."""

import pytest

from tests.support.runs import run_command

SENTENCES = {
    "light": ["turn the lamp on", "switch on the light", "lights off please", "make it brighter"],
    "music": ["play some jazz", "play my favourite song", "next track", "put on the radio"],
    "weather": ["will it rain today", "is it cold outside", "forecast for monday", "any snow"],
}


@pytest.fixture(name="data")
def _data(tmp_path):
    """Sentences of our own, the first two of each label to teach and the others to ask."""
    for name, part in (("train", slice(0, 2)), ("valid", slice(2, 4))):
        rows = [f"{text},{label}" for label, texts in SENTENCES.items() for text in texts[part]]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return tmp_path


def test_two_sentences_a_label_are_enough_to_tell_three_apart(data):
    done = run_command("converters.benchmarks.shots", f"--data={data}", "--counts=2", "--draws=1")
    assert done.returncode == 0, done.stderr
    row = done.stdout.splitlines()[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == f"{data.name}, 3" and cells[1] == "2"
    assert float(cells[2].split()[0]) >= 60
    assert all(0 <= float(cell) <= 100 for cell in cells[3:])


@pytest.mark.parametrize("target", ["host", pytest.param("mps2-an386", marks=pytest.mark.slow)])
def test_a_board_learns_them_and_answers_itself(data, target):
    done = run_command(
        "converters.benchmarks.shots", f"--data={data}", "--counts=2", "--draws=1",
        f"--target={target}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].strip("|").split("|")]
    assert cells[:2] == [f"{data.name}, 3", "2"] and float(cells[2].split()[0]) >= 60


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--counts=0"], "numbers of 1 and more"),
        (["--counts=few"], "whole numbers"),
        (["--model=zoo/snips"], "no encoder"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(data, more, message):
    done = run_command("converters.benchmarks.shots", f"--data={data}", *more)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1


def test_a_target_that_there_is_none_of_is_named_before_any_work(data):
    done = run_command("converters.benchmarks.shots", f"--data={data}", "--target=nowhere")
    assert done.returncode == 1 and "TARGET=nowhere: no such target" in done.stderr
    assert done.stdout == ""
