"""What a model answers to labelled rows, in every form that is at hand."""

import dataclasses
import pathlib
import tempfile
from typing import Any

import numpy as np

from converters.evaluation import board as board_lib
from converters.evaluation import evaluation, job_report, labelled_rows
from converters.evaluation.model import Model
from converters.firmware import model_image
from converters.page import costs
from converters.tflm import runner
from embbert_tf.data import encoding
from embbert_tf.data import examples as examples_lib
from embbert_tf.data.examples import Example
from embbert_tf.storage.run_folder import Run

# Rows, drawn by a seed, for the error of each tensor, and for the emulated board.
TENSOR_ROWS = BOARD_ROWS = 32
# In 1/10000, as the firmware counts confidences.
_ONE = model_image.CONFIDENCE_ONE


@dataclasses.dataclass(frozen=True)
class Answers:
    """The kernels' answers to labelled rows, and how other forms of the model do on the same.

    Attributes:
        source: The rows' file, for people.
        examples: The rows.
        targets: Class indices (count,), or scores.
        logits: int8 (count, L) of the kernels, which are the board's, to the bit; of TFLM where
            the kernels do not take the model.
        target: The board that ran.
        on_board: How many of the rows it ran.
        equal: Whether its logits are the reference's; None where it ran none.
        metrics: By form (`fp32`, `qat`, `tflm`, `device`), the figures.
        agreement: By pair of forms, as `job_report.agreement` has it.
        rows: Of all that was measured; those of the other forms.
    """

    source: str
    examples: list[Example]
    targets: np.ndarray
    logits: np.ndarray
    target: str
    on_board: int
    equal: bool | None
    metrics: dict[str, dict[str, float]]
    agreement: dict[str, dict[str, float]]
    rows: int


def of_job(folder: pathlib.Path, report: dict[str, Any], model: Model, data: str) -> Answers:
    """Reads what the main job has left behind.

    Args:
        folder: The job's.
        report: Its report.
        model: Its model.
        data: Its test file.

    Raises:
        EmbBertError: A file is missing or does not belong to the others.
    """
    path = folder / board_lib.DEVICE_ROWS
    examples = examples_lib.read_all(path)
    logits = board_lib.read_logits(
        folder / board_lib.DEVICE_LOGITS, len(examples), max(len(model.labels), 1)
    )
    return Answers(
        source=data,
        examples=examples,
        targets=encoding.targets_of(examples, model.labels, path),
        logits=logits,
        target=report["target"],
        on_board=len(examples),
        equal=report["device_equals_reference"],
        metrics=report["metrics"],
        agreement=report["agreement"],
        rows=report["count"],
    )


@dataclasses.dataclass(frozen=True)
class Rows:
    """Labelled rows as a model reads them.

    Attributes:
        source: Their file, for people.
        examples: The rows.
        sequences: Token ids of each, without padding.
        targets: Class indices (count,), or scores.
    """

    source: str
    examples: list[Example]
    sequences: list[list[int]]
    targets: np.ndarray


def read(model: Model, data: str, limit: int) -> Rows:
    """Reads rows, or draws `limit` of them.

    Raises:
        DataError: They do not suit the model.
    """
    sequences, targets = labelled_rows.read_rows(model, data, limit)
    return Rows(data, labelled_rows.read_sample(data, limit), sequences, targets)


def of_rows(model: Model, run: Run | None, rows: Rows, kernels: bool, board: bool) -> Answers:
    """Runs rows through every form.

    Args:
        model: The saved model.
        run: The run that it was converted from; None: without its float models.
        rows: The rows.
        kernels: Whether the kernels take the model; if not, the answers are TFLM's.
        board: Whether the emulated board gets some of the rows, too.

    Raises:
        EmbBertError: A form cannot run.
    """
    examples, sequences, targets = rows.examples, rows.sequences, rows.targets
    logits = runner.run_all(model, sequences, 0, runner.Progress("TFLM", len(examples)))
    real = {"tflm": model.dequantize(logits)}
    on_board, equal = 0, None
    if kernels:
        progress = runner.Progress("kernels", len(examples))
        logits = evaluation.fused_logits(model.tflite, model.pair, sequences, 0, progress)
        real["device"] = model.dequantize(logits)
        if board:
            on_board, equal = _on_board(model, examples, logits)
    if run is not None:
        floats = evaluation.Evaluation(run, examples, rows.source, "page")
        real["fp32"] = floats.keras(run.model)
        if run.qat_model is not None:
            real["qat"] = floats.keras(run.qat_model)
    return Answers(
        source=rows.source,
        examples=examples,
        targets=targets,
        logits=logits,
        target=costs.TARGET,
        on_board=on_board,
        equal=equal,
        metrics={form: _figures(model, value, targets) for form, value in real.items()},
        agreement={
            f"{one}_{other}": job_report.agreement(real[one], real[other], model.labels)
            for one, other in (("fp32", "tflm"), ("qat", "tflm"), ("tflm", "device"))
            if one in real and other in real
        },
        rows=len(examples),
    )


def _figures(model: Model, real: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    from embbert_tf.training import metrics

    if model.labels:
        found = metrics.classification(real, targets, model.labels)
    else:
        found = metrics.regression(real, targets)
    return {name: value for name, value in found.items() if isinstance(value, float)}


def _on_board(model: Model, examples: list[Example], logits: np.ndarray) -> tuple[int, bool | None]:
    """Runs some rows on the emulated board; returns how many, and whether it answers the same."""
    board = board_lib.Board(costs.TARGET, model.tflite_path.parent)
    numbers = board_lib.draw(len(examples), BOARD_ROWS)
    fitting = board_lib.fitting_rows(model, [examples[n] for n in numbers], board.text_bytes())
    kept = [(n, row) for n, row in zip(numbers, fitting, strict=True) if row is not None]
    if not kept:
        return 0, None
    with tempfile.TemporaryDirectory(prefix="embbert-page-") as name:
        csv, output = pathlib.Path(name) / "rows.csv", pathlib.Path(name) / "logits.bin"
        examples_lib.write_csv(csv, [row for _, row in kept])
        board.evaluate(csv, output, len(kept))
        found = board_lib.read_logits(output, len(kept), logits.shape[1])
    return len(kept), bool(np.array_equal(found, logits[[n for n, _ in kept]]))


def confidences(logits: np.ndarray, scale: float) -> np.ndarray:
    """Returns the confidence of each row's answer as the firmware computes it, (count,) in 0..1.

    Args:
        logits: int8 (count, L).
        scale: Of the logits.
    """
    table = model_image.confidence_table(scale).astype(np.int64)
    below = logits.max(axis=1, keepdims=True).astype(np.int64) - logits
    total = table[below].sum(axis=1)
    return ((_ONE * table[0] + total // 2) // total) / _ONE


def tensors(model: Model, run: Run, examples: list[Example]) -> tuple[dict, str, int]:
    """Compares every tensor on TFLM with the float model.

    Returns:
        `Fidelity` by name; which float model; how many rows were run.
    """
    from converters.report import fidelity

    folded, reference = fidelity.float_model(run, model.tflite)
    inspector = fidelity.Inspector(model.tflite, folded)
    drawn = board_lib.draw(len(examples), TENSOR_ROWS)
    chosen = [examples[n] for n in drawn]
    for ids in encoding.encode_all(model.tokenizer, chosen, model.pair, model.max_length):
        inspector.run(ids)
    return inspector.fidelity, reference, len(chosen)
