"""What models need and reach: rows, kept in a file, and the tables of them."""

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Iterable

from converters.benchmarks import published
from converters.zoo import seed_results
from embbert_tf import errors
from embbert_tf.data import files

TOKENS = (12, 64, 256)
END = "<!-- end of table -->"


@dataclasses.dataclass(frozen=True)
class Row:
    """What a model needs and reaches on a task.

    Attributes:
        task: Of zoo/recipes.
        model: Its name.
        fp32: Accuracies of the seeds; None where there are none.
        int8: Those on the device, likewise.
        parameters: Numbers that were trained; 0 where that says nothing.
        tflite: Bytes of the int8 graph; 0 where there is none.
        flash: Bytes of the whole program.
        ram: Bytes that the model writes to, without stack and input.
        instructions: By number of EmbBERT's tokens.
    """

    task: str
    model: str
    fp32: list[float] | None
    int8: list[float] | None
    parameters: int
    tflite: int
    flash: int
    ram: int
    instructions: dict[int, int]

    def markdown(self) -> str:
        """Returns the row of the long table."""
        shares = [seed_results.cell(values) for values in (self.fp32, self.int8)]
        seeds = len(self.int8 or ())
        known = published.accuracy(self.task, self.model)
        shares += [str(seeds) if seeds else "", f"{known[0]} ±{known[1]}" if known else ""]
        cells = [self.task, self.model, *shares]
        cells += [_number(n) for n in (self.parameters, self.tflite, self.flash, self.ram)]
        cells += [_number(self.instructions.get(n, 0)) for n in TOKENS]
        return "| " + " | ".join(cells) + " |"


HEADER = [
    "| task | model | fp32 | int8 | seeds | published fp32 | parameters | .tflite | flash | RAM "
    "| 12 tokens | 64 tokens | 256 tokens |",
    "| --- | --- " + "| ---: " * 11 + "|",
]


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def table(rows: Iterable[Row]) -> list[str]:
    """Returns the lines of the long table."""
    return [*HEADER, *(row.markdown() for row in rows)]


def summary(rows: Iterable[Row]) -> list[str]:
    """Returns the lines of a table with a row a model.

    Accuracy is the median of int8, and in brackets the published mean in fp32; flash, RAM and
    instructions (of 12 tokens) are those of the first task.
    """
    rows = list(rows)
    tasks = list(dict.fromkeys(row.task for row in rows))
    lines = [
        "| model | parameters | " + " | ".join(f"{task} %" for task in tasks)
        + " | flash kB | RAM kB | million instructions |",
        "| --- |" + " ---: |" * (len(tasks) + 4),
    ]  # fmt: skip
    for model in dict.fromkeys(row.model for row in rows):
        of_model = {row.task: row for row in rows if row.model == model}
        first = next(iter(of_model.values()))
        cells = [model, _number(first.parameters)]
        for task in tasks:
            found = of_model[task].int8 if task in of_model else None
            known = published.accuracy(task, model)
            median = f"{100 * statistics.median(found):.1f}" if found else ""
            cells.append(f"{median} ({known[0]})".strip() if known else median)
        spent = first.instructions.get(TOKENS[0])
        cells += [f"{first.flash / 1000:.0f}", f"{first.ram / 1000:.1f}"]
        cells.append(f"{spent / 1e6:.3g}" if spent else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


# What stands in front of each table in a file.
TABLES = {
    "<!-- table: python -m converters.benchmarks.models -->": table,
    "<!-- summary: python -m converters.benchmarks.models -->": summary,
}


def read(path: pathlib.Path) -> list[Row]:
    """Returns the rows of a file, one a line; none where there is no file.

    Raises:
        DataError: A line is no row.
    """
    rows = []
    lines = _text(path).splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            fields["instructions"] = {int(n): c for n, c in fields["instructions"].items()}
            rows.append(Row(**fields))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise errors.DataError(f"{path}:{number}: no row of a model ({error})") from error
    return rows


def write(path: pathlib.Path, rows: Iterable[Row]) -> None:
    """Writes the rows, one a line."""
    lines = [json.dumps(dataclasses.asdict(row)) for row in rows]
    files.write_text(path, "".join(f"{line}\n" for line in lines))


def merged(rows: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Returns the rows, those of a task and model of `new` in place of older ones."""
    result = {(row.task, row.model): row for row in rows}
    result |= {(row.task, row.model): row for row in new}
    return list(result.values())


def _text(path: pathlib.Path) -> str:
    try:
        return files.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise errors.DataError(f"{path}: not UTF-8 ({error})") from error


def check_marks(path: pathlib.Path) -> str:
    """Returns the text of a file that tables can be put into.

    Raises:
        DataError: The file has no mark of a table, or one without its end.
        FileError: It cannot be read.
    """
    text = _text(path)
    if not any(begin in text for begin in TABLES):
        raise errors.DataError(f"{path}: needs a line '{next(iter(TABLES))}' and '{END}' after it")
    for begin in TABLES:
        if begin in text and END not in text.split(begin, 1)[1]:
            raise errors.DataError(f"{path}: no line '{END}' after '{begin}'")
    return text


def replace_tables(path: pathlib.Path, rows: list[Row]) -> None:
    """Puts the tables that a file has marks of in between these marks; errors of `check_marks`."""
    text = check_marks(path)
    for begin, make in TABLES.items():
        if begin not in text:
            continue
        head, rest = text.split(begin, 1)
        text = "\n".join([head + begin, *make(rows), END]) + rest.split(END, 1)[1]
    files.write_text(path, text)
