"""Startup, faults, semihosting, the instruction counter and time limits, board by board."""

import subprocess

import pytest

from tests.support.firmware_model import FIRMWARE

BOARDS = {
    "mps2-an386": ("mps2-an386", ["-mcpu=cortex-m4"]),
    "cortex-m4-64k": ("mps2-an386", ["-mcpu=cortex-m4"]),
    "mps2-an500": ("mps2-an500", ["-mcpu=cortex-m7"]),
    "mps3-an547": ("mps3-an547", ["-mcpu=cortex-m55", "-mfloat-abi=hard"]),
}


@pytest.fixture(scope="module", params=BOARDS)
def board(request, tmp_path_factory):
    """Runs the board's test program with a command; returns the completed process."""
    machine, cpu = BOARDS[request.param]
    program = tmp_path_factory.mktemp(request.param) / "board_test.elf"
    common = sorted(str(path) for path in (FIRMWARE / "boards/common").glob("*.c"))
    subprocess.run(
        [
            *(
                "arm-none-eabi-gcc",
                "-std=c11",
                "-Os",
                "-Wall",
                "-Wextra",
                "-Wconversion",
                "-Werror",
            ),
            *("-mthumb", *cpu, f"-Iboards/{request.param}", "-nostartfiles", "--specs=nano.specs"),
            *(f"-Wl,-T,boards/{request.param}/memory.ld", "-Wl,-T,boards/common/sections.ld"),
            *("-o", program, "tests/board_test.c", *common),
        ],
        cwd=FIRMWARE,
        check=True,
    )

    def run(command, seconds=600):
        return subprocess.run(
            ["boards/emulate.sh", machine, str(seconds), program, command],
            cwd=FIRMWARE,
            capture_output=True,
            text=True,
            timeout=seconds + 300,
        )

    run.name = request.param
    return run


def test_counter_counts_every_instruction(board):
    result = board("count")
    assert result.returncode == 0, result.stderr
    one, two, three, five, many = map(int, result.stdout.split())
    # The call's and the counter's own cost is the same in all figures.
    assert two - one == 2
    assert three - two == 2
    assert five - one == 2 * 4
    assert many - one == 2 * 499
    assert 0 < one < 200


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


def test_endless_loop_is_ended(board):
    result = board("loop", seconds=1)
    assert result.returncode == 124
    assert "did not finish within 1 s" in result.stderr


def test_any_character_reaches_the_program(board):
    command = "write, a,,b=c  \"q\" 'r' $x `y` \\ größer 日本"
    assert board(command).stdout == command
