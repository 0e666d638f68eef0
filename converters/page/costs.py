"""What a model costs a Cortex-M4: flash and RAM by part, instructions by number of tokens."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from converters.evaluation.board import Board, BoardError
from converters.exports import measure

TARGET, PROCESSOR = measure.BOARD, measure.PROCESSOR
# Every number of tokens up to this one is counted.
COUNTED_TO = 64
# The kernels take rows by four and eight, so that counts of n repeat their pattern every so many.
_PERIOD = 8


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
    """Returns the numbers of tokens to count the instructions of.

    All of a short model; of a longer one those up to `COUNTED_TO`, and a whole period of the
    kernels' pattern halfway from there to the end, and one at the end.
    """
    if max_tokens <= COUNTED_TO + 2 * _PERIOD:
        return list(range(1, max_tokens + 1))
    ends = (COUNTED_TO, (COUNTED_TO + max_tokens) // 2, max_tokens)
    periods = [n for end in ends[1:] for n in range(end - _PERIOD + 1, end + 1)]
    return [*range(1, COUNTED_TO + 1), *periods]


def by_tokens(counted: Mapping[int, int], max_tokens: int) -> list[int]:
    """Returns the instructions of every number of tokens, from 1 on.

    Between those counted a parabola stands for the attention's part, which grows with the square,
    through the three that lie at the same place of the kernels' pattern.

    Args:
        counted: Instructions of each of `counted_lengths`.
        max_tokens: The last number.
    """
    result = [counted.get(n, 0) for n in range(1, max_tokens + 1)]
    for place in range(_PERIOD):
        known = [n for n in counted if n % _PERIOD == place and n > COUNTED_TO - _PERIOD]
        wanted = [n for n in range(1, max_tokens + 1) if n % _PERIOD == place and n not in counted]
        if wanted:
            curve = np.polyfit(known, [counted[n] for n in known], 2)
            for n, value in zip(wanted, np.polyval(curve, wanted), strict=True):
                result[n - 1] = round(float(value))
    return result


def exactness(instructions: Sequence[int]) -> str:
    """Says in words how near the counts are to what a board takes."""
    counted = "counted in QEMU for each number of tokens"
    if len(instructions) > COUNTED_TO + 2 * _PERIOD:
        counted += f" up to {COUNTED_TO} and within 1 % beyond, where a curve fills in"
    return f"{counted}; the tokenizer's share, below 1 %, is estimated from the bytes"
