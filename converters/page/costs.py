"""What a model costs a Cortex-M4: flash and RAM by part, instructions by number of tokens."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from converters.evaluation.board import Board, BoardError
from converters.exports import measure

TARGET, PROCESSOR = measure.BOARD, measure.PROCESSOR
# Every number of tokens up to this one is counted, beyond it so many: multiples of four, as the
# kernels take rows by four.
COUNTED_TO, _BEYOND = 64, 24


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a model costs.

    Attributes:
        compiler: Of the firmware.
        flash: Bytes by part of the program.
        ram: Likewise, the stack included.
        memory: Bytes of RAM that the engine takes for the model.
        instructions: Of an inference, by number of tokens from 1 on.
        per_byte: Instructions that the tokenizer takes for a byte of a short sentence.
    """

    compiler: str
    flash: dict[str, int]
    ram: dict[str, int]
    memory: int
    instructions: list[int]
    per_byte: float


def of_model(model: pathlib.Path, max_tokens: int) -> Costs:
    """Builds the firmware of a model and measures it in the emulator.

    Args:
        model: The model folder.
        max_tokens: Tokens of its longest text.

    Raises:
        BoardError: A tool is missing, or the firmware cannot be built or run.
    """
    if lacking := measure.missing():
        raise BoardError(lacking)
    board = Board(TARGET, model)
    sizes = board.sizes()
    memory, texts = board.model_memory(), board.text_bytes()
    ram = {"model": memory, "buffer for texts": texts, **sizes["ram"]}
    ram["application"] -= memory + texts  # which has both
    counted, per_byte = board.instructions(counted_lengths(max_tokens))
    return Costs(
        sizes["compiler"],
        {name: size for name, size in sizes["flash"].items() if size},
        {name: size for name, size in ram.items() if size},
        memory,
        by_tokens(counted, max_tokens),
        per_byte,
    )


def counted_lengths(max_tokens: int) -> list[int]:
    """Returns the numbers of tokens to count the instructions of, ascending.

    All of a short model; of a longer one those up to `COUNTED_TO`, then even steps to the end.
    """
    beyond = {
        min(4 * round(n / 4), max_tokens) for n in np.linspace(COUNTED_TO, max_tokens, _BEYOND + 1)
    }
    every = range(1, min(COUNTED_TO, max_tokens) + 1)
    return sorted({*every, *(n for n in beyond if n > COUNTED_TO), max_tokens})


def by_tokens(counted: Mapping[int, int], max_tokens: int) -> list[int]:
    """Returns the instructions of every number of tokens from 1 to `max_tokens`.

    Args:
        counted: Instructions of each of `counted_lengths`; a line is drawn from one to the next.
        max_tokens: The last number.
    """
    known = sorted(counted)
    wanted = range(1, max_tokens + 1)
    return [round(float(v)) for v in np.interp(wanted, known, [counted[n] for n in known])]


def exactness(instructions: Sequence[int]) -> str:
    """Says in words how near the counts are to what a board takes."""
    counted = "counted in QEMU for each number of tokens"
    if len(instructions) > COUNTED_TO:
        counted += f" up to {COUNTED_TO} and within 3 % beyond, where lines fill in"
    return f"{counted}; the tokenizer's share, below 1 %, is estimated from the bytes"
