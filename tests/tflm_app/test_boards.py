"""Startup, stacks, faults, interrupts, semihosting, counters and time limits, board by board."""

import re
import shutil
import subprocess

import pytest

from tests.support.boards import BOARDS
from tests.support.boards import board as board_of
from tests.support.firmware_model import FIRMWARE, ROOT, SENTENCES, TinyModel, make

INSTRUCTIONS = [name for name in BOARDS if name != "netduinoplus2"]


@pytest.fixture(scope="module", params=BOARDS)
def board(request, tmp_path_factory):
    """Runs the board's test program with a command; returns the completed process."""
    target = board_of(request.param)
    program = tmp_path_factory.mktemp(request.param) / "board_test.elf"
    target.build(program, "tests/board_test.c")

    def run(command, seconds=60):
        return target.run(program, command, seconds=seconds)

    run.name = request.param
    run.program = program
    return run


def address_of(program, symbol) -> int:
    """The address of a symbol."""
    listing = subprocess.run(
        ["arm-none-eabi-nm", program], capture_output=True, text=True, check=True
    )
    return int(re.search(rf"^(\w+) \w {symbol}$", listing.stdout, re.MULTILINE)[1], 16)


def test_counter_counts_every_instruction(board):
    if board.name not in INSTRUCTIONS:
        pytest.skip("nothing counts instructions on this board")
    result = board("count")
    assert result.returncode == 0, result.stderr
    one, two, three, five, many = map(int, result.stdout.split())
    # The call's and the counter's own cost is the same in all figures.
    assert two - one == 2
    assert three - two == 2
    assert five - one == 2 * 4
    assert many - one == 2 * 499
    assert 0 < one < 200


@pytest.mark.slow
def test_counter_does_not_wrap(board):
    if board.name not in ("mps2-an386", "mps3-an547"):
        pytest.skip("the same counter as another board's")
    result = board("long", seconds=900)
    one, billion = map(int, result.stdout.split())
    # The 32 bits of the counter hold 1,342 million instructions.
    assert billion - one == 2 * 699_999_999


def test_stack_paint_shows_the_deepest_call(board):
    before, after = map(int, board("stack").stdout.split())
    assert 0 < before < 400
    assert before + 20 * 64 <= after < before + 20 * 64 + 20 * 48


def test_exit_status_reaches_the_caller(board):
    assert board("exit").returncode == 7


def test_fault_prints_one_line_and_fails(board):
    result = board("fault")
    assert result.returncode == 1
    assert result.stdout.startswith("embbert: ")
    assert "fault" in result.stdout
    assert result.stdout.count("\n") == 1


def test_stack_overflow_faults_instead_of_eating_variables(board):
    """The stack lies at the bottom of the RAM, and the line comes from another stack."""
    memory = (FIRMWARE / "boards" / board.name / "memory.ld").read_text()
    origin = int(re.search(r"RAM .*ORIGIN = (0x[0-9A-Fa-f]+)", memory)[1], 16)
    assert address_of(board.program, "__stack_limit") == origin
    assert address_of(board.program, "__bss_start") > address_of(board.program, "__stack_top")
    result = board("overflow")
    assert result.returncode == 1
    assert result.stdout == "embbert: stack overflow\n"


def test_vector_table_constructors_and_unit(board):
    result = board("vectors")
    assert result.returncode == 0, result.stdout + result.stderr
    vtor, constructed, unit = result.stdout.split()
    assert int(vtor) == address_of(board.program, "vectors")
    assert int(vtor) % 512 == 0
    assert constructed == "17"  # in the order of their priorities: 1 * 10 + 7
    assert unit == ("instructions" if board.name in INSTRUCTIONS else "ticks")


def test_interrupts_are_the_boards_or_end_the_program(board):
    result = board("interrupts")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "2"
    assert re.fullmatch(r"embbert: unexpected interrupt at 0x[0-9a-f]{8}", lines[1])
    assert len(lines) == 2


def test_endless_loop_is_ended(board):
    result = board("loop", seconds=1)
    assert result.returncode == 124
    assert "did not finish within 1 s" in result.stderr


def test_any_character_reaches_the_program(board):
    command = "write, a,,b=c  \"q\" 'r' $x `y` \\ größer 日本"
    assert board(command).stdout == command


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("mps2-an385", "portable"),
        ("mps2-an505", "dsp"),
        ("netduinoplus2", "dsp"),
        ("microbit", "portable"),
    ],
)
def test_boards_run_the_application(tiny, name, kernels):
    """M3, M33, STM32F405 and nRF51: the right kernels, the reference's answers, an honest unit."""
    information = make("info", TARGET=name, IMAGE=tiny.path)
    assert information.returncode == 0, information.stdout + information.stderr
    assert re.search(rf"^kernels +{kernels}$", information.stdout, re.MULTILINE)
    assert re.search(rf"^target +{name}$", information.stdout, re.MULTILINE)
    unit = "instructions" if name in INSTRUCTIONS else "ticks"
    for text in SENTENCES[:3]:
        result = make("run", TARGET=name, IMAGE=tiny.path, TEXT=text)
        label, confidence = tiny.answer(text)
        assert result.stdout.startswith(f"{label} {confidence:.2f} %\n"), result.stderr
        assert re.search(rf"tokens {len(tiny.ids(text))}, {unit} [\d,]+$", result.stdout.strip())


def test_a_board_may_lie_anywhere(tiny, tmp_path):
    """Copied out of the tree, as docs/firmware.md says; relative paths are the caller's."""
    folder = tmp_path / "my_board"
    shutil.copytree(FIRMWARE / "boards/netduinoplus2", folder)
    header = (folder / "board.h").read_text().replace('"netduinoplus2"', '"my board"')
    (folder / "board.h").write_text(header)
    result = make("run", BOARD_DIR=folder, IMAGE=tiny.path, TEXT=SENTENCES[0])
    label, confidence = tiny.answer(SENTENCES[0])
    assert result.stdout.startswith(f"{label} {confidence:.2f} %\n"), result.stderr
    assert "my board" in make("info", BOARD_DIR=folder, IMAGE=tiny.path).stdout
    # Without a machine of QEMU it builds, and says so when it is to run.
    recipe = (folder / "board.mk").read_text()
    (folder / "board.mk").write_text(recipe.replace("MACHINE := netduinoplus2\n", ""))
    program = make("program", BOARD_DIR=folder, IMAGE=tiny.path)
    assert program.returncode == 0, program.stderr
    assert program.stdout.strip().endswith("embbert.elf")
    result = make("run", BOARD_DIR=folder, IMAGE=tiny.path, TEXT="x")
    assert result.returncode != 0
    assert "names no MACHINE of QEMU" in result.stderr
    # With too little flash it says by how much.
    memory = (folder / "memory.ld").read_text()
    (folder / "memory.ld").write_text(memory.replace("LENGTH = 1M", "LENGTH = 16K"))
    result = make("program", BOARD_DIR=folder, IMAGE=tiny.path)
    assert result.returncode != 0
    assert re.search(r"my_board has too little flash, by \d+ bytes", result.stderr)
    assert "arm-none-eabi/bin/ld" not in result.stderr


@pytest.mark.parametrize("folder", ["nowhere", "a folder", "docs"])
def test_unusable_board_folder_is_explained(tiny, folder, tmp_path):
    path = ROOT / folder if folder == "docs" else tmp_path / folder
    result = make("info", BOARD_DIR=path, IMAGE=tiny.path)
    assert result.returncode != 0
    assert "BOARD_DIR=" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("target", ["mps2-an386", "netduinoplus2"])
def test_bench_does_not_need_the_text_buffer(tiny, tmp_path, target):
    """256 ids once ran 212 bytes over the end of a buffer of 300."""
    model = TinyModel(tmp_path, max_length=256)
    figures, stacks = [], []
    for size in (300, 2048):
        result = make("bench", TARGET=target, IMAGE=model.path, TEXT_BYTES=size, PROFILE=1)
        assert result.returncode == 0, result.stdout + result.stderr
        result = make("bench", TARGET=target, IMAGE=model.path, TEXT_BYTES=size)
        lines = result.stdout.splitlines()
        assert result.returncode == 0, result.stdout + result.stderr
        stacks.append(re.search(r"stack used ([\d,]+) of ([\d,]+)", result.stdout).groups())
        figures.append([re.sub(r"\d{5,}", "", line) for line in lines if '"n": 256' in line])
    assert figures[0] == figures[1] and figures[0]
    assert stacks[0] == stacks[1]
    used, size = (int(number.replace(",", "")) for number in stacks[0])
    assert used < size
