"""Runs a model's firmware on a board, emulated or this machine, and reads what it answered."""

import dataclasses
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from converters.firmware import sources
from converters.tflite import model_folder
from converters.tflm import runner
from embbert_tf import errors
from embbert_tf.data import encoding, files
from embbert_tf.data import examples as examples_lib

HOST = "host"
# What the main job leaves of the board's part: the rows that it ran, and its logits.
DEVICE_ROWS, DEVICE_LOGITS = "device_rows.csv", "device_logits.bin"
# Room in the board's text buffer beside the texts and the longest label; app/eval.c has less.
_SPARE_BYTES = 256
# After these a board counts as hung; an emulated one on a busy machine is slow.
_START_SECONDS = 600
_ROW_SECONDS = 5
# A number as app/eval.c reads it.
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


class BoardError(errors.EmbBertError):
    """The firmware cannot be built or run, or its results are not of the expected form."""


@dataclasses.dataclass(frozen=True)
class Board:
    """A target of `tflm_app/Makefile` with one model's firmware.

    Attributes:
        target: Such as "mps2-an386", or "host".
        model: The model folder.
        max_tokens: Texts end there; 0: where the model's do.
        variables: More of the Makefile's, such as RUNTIME and what it needs.
    """

    target: str
    model: pathlib.Path
    max_tokens: int = 0
    variables: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def command(self, goal: str, **variables: object) -> list[str]:
        """Returns the command that makes a goal of the firmware's Makefile."""
        settings = {"TARGET": self.target, "MODEL": self.model}
        settings |= {**self.variables, **variables}
        if self.max_tokens:
            settings["MAX_TOKENS"] = self.max_tokens
        make = ["make", "-s", "--no-print-directory", f"-j{runner.cores()}"]
        make += ["-C", short(sources.firmware()), goal]
        return make + [
            f"{name}={short(value) if isinstance(value, pathlib.Path) else value}"
            for name, value in settings.items()
        ]

    def text_bytes(self) -> int:
        """Returns the size of the board's text buffer; needs no model yet.

        Raises:
            BoardError: There is no such target, or a tool to build or run it is missing.
        """
        if self.target != HOST and shutil.which("qemu-system-arm") is None:
            raise BoardError(
                "qemu-system-arm is missing; as root: apt-get install qemu-system-arm, or take "
                f"--target={HOST}"
            )
        return int(self._make(self.command("text_bytes")))

    def eval_command(
        self, csv: pathlib.Path, logits: pathlib.Path, rows: int, **variables: object
    ) -> list[str]:
        """Returns the command that runs every row of a CSV file; the arguments of `evaluate`."""
        seconds = _START_SECONDS + _ROW_SECONDS * rows
        return self.command("eval", CSV=csv, LOGITS=logits, TIMEOUT=seconds, **variables)

    def evaluate(
        self, csv: pathlib.Path, logits: pathlib.Path, rows: int, **variables: object
    ) -> dict:
        """Runs every row of a CSV file.

        Args:
            csv: Labelled rows that fit the board, see `fitting_rows`.
            logits: Where the board writes the int8 logits; `read_logits` reads them.
            rows: Number of them, for the time after which the board counts as hung.
            **variables: More of the Makefile's, such as LABELS.

        Returns:
            The board's own figures: `count`; `accuracy` and `macro_f1`, or `pearson` and
            `mean_absolute_error`; `instructions` and more.

        Raises:
            BoardError: The firmware cannot be built or run, or cannot read the file.
        """
        return self._json(self.eval_command(csv, logits, rows, **variables))

    def type(self, lines: Sequence[str], **variables: object) -> str:
        """Types lines at the prompt; returns what the board prints.

        Args:
            lines: Without their ends.
            **variables: More of the Makefile's, such as LABELS.

        Raises:
            BoardError: The firmware cannot be built or run.
        """
        command = self.command("prompt", CONSOLE="semihosting", **variables)
        return self._make(command, "".join(f"{line}\n" for line in [*lines, ":quit"]))

    def sizes(self) -> dict:
        """Returns the firmware's sizes: `flash_bytes`, `ram_bytes`, `compiler` and more.

        Not of the target "host": a program of this machine says nothing about a device.

        Raises:
            BoardError: The firmware cannot be built or run.
        """
        return self._json(self.command("size"))

    def instructions(self, tokens: Sequence[int]) -> tuple[dict[int, int], float]:
        """Counts the instructions of inferences; not of the target "host", where nothing counts.

        Args:
            tokens: The numbers of tokens to count.

        Returns:
            {number of tokens: instructions}, and those of the tokenizer a byte of a short sentence.

        Raises:
            BoardError: The firmware cannot be built or run, or a number is not the model's.
        """
        command = self.command("bench", TOKENS=" ".join(map(str, tokens)))
        lines = [json.loads(line) for line in self._lines(command)]
        counts = {line["n"]: line["instructions"] for line in lines if "n" in line}
        return counts, next(line["per_byte"] for line in lines if line.get("text") == "command")

    def model_memory(self) -> int:
        """Returns the bytes of RAM that the engine takes for the model.

        Raises:
            BoardError: The firmware cannot be built or run.
        """
        command = self.command("info")
        found = re.search(r"^model memory +([\d,]+) bytes", self._make(command), re.M)
        if found is None:
            raise BoardError(f"`{shlex.join(command)}` does not print the model's memory")
        return int(found[1].replace(",", ""))

    def _json(self, command: list[str]) -> dict:
        return json.loads(self._lines(command)[-1])

    def _lines(self, command: list[str]) -> list[str]:
        lines = [line for line in self._make(command).splitlines() if line.startswith("{")]
        if not lines:
            raise BoardError(f"`{shlex.join(command)}` prints no line of JSON")
        return lines

    def _make(self, command: list[str], typed: str = "") -> str:
        # Paths of the command are relative to this folder; an outer make's options are not ours.
        environment = os.environ | {"PWD": os.getcwd(), "PYTHON": sys.executable}
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
            environment.pop(name, None)
        try:
            done = subprocess.run(
                command,
                env=environment,
                input=typed,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise BoardError(f"`make` cannot be started ({error.strerror}); install it") from error
        if done.returncode:
            words = f"{done.stdout}\n{done.stderr}".strip()
            raise BoardError(f"`{shlex.join(command)}` failed:\n{words}")
        return done.stdout


def short(path: str | pathlib.Path) -> str:
    """Returns a path relative to the working folder if it lies within, else in full."""
    full = pathlib.Path(path).absolute()
    return os.path.relpath(full) if full.is_relative_to(pathlib.Path.cwd()) else str(full)


def draw(count: int, limit: int) -> list[int]:
    """Returns the numbers of the rows to run on a board: all, or a seeded choice of `limit`."""
    if not limit or limit >= count:
        return list(range(count))
    return random.Random(0).sample(range(count), limit)


def fitting_rows(
    model: model_folder.ModelFolder, examples: Sequence[examples_lib.Example], text_bytes: int
) -> list[examples_lib.Example | None]:
    """Returns the rows as a board can read them: with the same ids, within its text buffer.

    Args:
        model: The model that will read them.
        examples: The rows.
        text_bytes: Size of the board's buffer for all texts of a row.

    Returns:
        Each row; shortened behind the last token that counts where it is too long, or None where a
        shorter text would have other ids.
    """
    longest = max((len(label.encode()) for label in model.labels), default=0)
    room = text_bytes - longest - _SPARE_BYTES
    return [_fitting(model, example, room) for example in examples]


def _fitting(
    model: model_folder.ModelFolder, example: examples_lib.Example, room: int
) -> examples_lib.Example | None:
    if not model.labels and not _PLAIN_NUMBER.fullmatch(example.label):
        label = repr(examples_lib.score(example, "the test file"))
        example = dataclasses.replace(example, label=label)
    pair = example.text_pair if model.pair else None
    example = dataclasses.replace(example, text_pair=pair)
    if len(example.text.encode()) + len((pair or "").encode()) <= room // (2 if pair else 1):
        return example
    each = room // 2 if pair else room
    shortened = dataclasses.replace(
        example, text=_cut(example.text, each), text_pair=_cut(pair, each) if pair else None
    )

    def ids(row: examples_lib.Example) -> list[int]:
        return encoding.encode_all(model.tokenizer, [row], model.pair, model.max_length)[0]

    return shortened if ids(shortened) == ids(example) else None


def _cut(text: str, size: int) -> str:
    """Returns the start of a text, at most `size` bytes of UTF-8, at a word's end if it has one."""
    data = text.encode()
    if len(data) <= size:
        return text
    start = data[:size].decode(errors="ignore")
    words = start.rsplit(None, 1)
    return words[0] if len(words) == 2 else start


def read_logits(path: str | pathlib.Path, rows: int, labels: int) -> np.ndarray:
    """Returns the int8 logits (rows, labels) that a board wrote.

    Args:
        path: The file that `Board.evaluate` was given.
        rows: Rows of its CSV file.
        labels: Logits of a row.

    Raises:
        BoardError: The file has another size.
    """
    data = np.frombuffer(files.read_bytes(path), np.int8)
    if data.size != rows * labels:
        raise BoardError(f"{path}: {data.size} bytes of logits, {rows} rows x {labels} expected")
    return data.reshape(rows, labels)
