"""The main job: from labelled text to int8 logits on a board, and what each form is worth."""

import contextlib
import dataclasses
import pathlib
import shlex
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from converters.evaluation import board as board_lib
from converters.evaluation import job_report
from converters.evaluation.board import Board, short
from converters.evaluation.evaluation import Evaluation
from converters.evaluation.model import Model
from converters.portable.convert import convert
from converters.portable.options import ConvertOptions
from embbert_tf import errors
from embbert_tf.baselines import any_model
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.data import examples as examples_lib
from embbert_tf.data import files
from embbert_tf.data.examples import Example
from embbert_tf.storage import run_folder
from embbert_tf.storage.run_folder import Run
from embbert_tf.training import quantized_trainer, trainer
from embbert_tf.training.options import QatOptions, TrainOptions

RUN = "run"
MODEL = "model"
REPORT = "report.json"


@dataclasses.dataclass(frozen=True)
class Job:
    """What the main job does.

    Attributes:
        name: Shown in the report.
        folder: Where everything goes: `run/`, `model/` and `report.json`.
        train: Training CSV.
        test: Test CSV.
        valid: Validation CSV; None holds out a part of `train`.
        target: The board: a target of `tflm_app/Makefile`.
        device_limit: Test rows to run on the board, drawn by a seed; 0 runs all.
        train_options: Of the training.
        qat_options: Of the quantization-aware training.
        recipe: As for `converters.convert`.
        convert_options: Of the conversion.
        commands: By step ("train", "qat", "convert"), the command that does the same by hand.
    """

    name: str
    folder: pathlib.Path
    train: str
    test: str
    valid: str | None
    target: str
    device_limit: int
    train_options: TrainOptions
    qat_options: QatOptions
    recipe: str | None
    convert_options: ConvertOptions
    commands: Mapping[str, Sequence[str]]

    @property
    def board(self) -> Board:
        """The board with the model that the job converts."""
        return Board(self.target, self.folder / MODEL)


class _Steps:
    """Says what each step is and how to repeat it by hand, and how long it took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, title: str, command: Sequence[str]) -> Iterator[None]:
        print(f"\n== {title}\n   {shlex.join(command)}", flush=True)
        start = time.monotonic()
        yield
        self.seconds[title] = round(time.monotonic() - start, 1)


def run_job(job: Job) -> dict:
    """Trains, quantizes, converts, runs on TFLM and on a board, and compares.

    Whatever can be wrong with the inputs is found before the first training step. A job that was
    killed goes on where it was when it is run again.

    Args:
        job: What to do.

    Returns:
        The report, which is in `report.json`, too; `job_report.table` shows it.

    Raises:
        EmbBertError: An input cannot be used, or a step failed; what was done is kept.
    """
    text_bytes = _check(job)
    steps = _Steps()
    with steps("train fp32", job.commands["train"]):
        run = trainer.train(
            job.train,
            output=job.folder / RUN,
            valid=job.valid,
            test=job.test,
            options=job.train_options,
        )
    with steps("quantization-aware training", job.commands["qat"]):
        run = quantized_trainer.train_quantized(run, job.train, job.qat_options, test=job.test)
    with steps("convert to int8", job.commands["convert"]):
        model = _convert(job, run)
    logits_file = job.folder / "tflm_logits.npy"
    with steps("evaluate on TFLM", _evaluate_command(job, logits_file)):
        result = model.evaluate(job.test, logits_file=logits_file)
        print(", ".join(f"{k} {v:.4f}" for k, v in result.items() if isinstance(v, float)))
    report = _report(job, run, model, np.load(logits_file), text_bytes, steps)
    files.write_json(job.folder / REPORT, report)
    return report


def _check(job: Job) -> int:
    """Checks what training does not; returns the size of the board's text buffer.

    Raises:
        EmbBertError: The target, a tool, the length of the graph or the folder cannot be used.
    """
    text_bytes = job.board.text_bytes()
    options = job.train_options
    if options.init:
        config = run_folder.read_config(options.init)
    else:
        config = any_model.new_config(options.architecture, options.preset)
    if isinstance(config, BaselineConfig):
        raise errors.OptionError(
            f"the job ends in the firmware's kernels, which run EmbBERT alone; {config.what} is "
            "trained and converted step by step (docs/baselines.md)"
        )
    longest = config.max_length
    if job.convert_options.max_length > longest:
        raise errors.OptionError(
            f"max_length {job.convert_options.max_length} is above {longest}, the positions that "
            "the model learns"
        )
    files.check_folder(job.folder)
    if job.train_options.task == "classification":
        _warn_of_scores(job.train)
    return text_bytes


def _warn_of_scores(path: str) -> None:
    """Warns of labels that are numbers with fractions: scores, most probably, not classes."""
    names = {row.label for row in examples_lib.read_examples(path)}
    try:
        scores = any(float(name) % 1 for name in names) and len(names) > 2
    except ValueError:
        return
    if scores:
        warnings.warn(
            f"{path}: the labels are {len(names)} numbers such as {min(names)!r}, and are trained "
            "as that many classes; if they are scores, say --task=regression",
            errors.EmbBertWarning,
            stacklevel=2,
        )


def _convert(job: Job, run: Run) -> Model:
    model = convert(
        run,
        calibration=job.train,
        validation=job.valid or run.path / examples_lib.VALID_CSV,
        recipe=job.recipe,
        options=job.convert_options,
    ).save(job.folder / MODEL)
    recipe = model.settings["recipe"]["name"]
    print(f"recipe {recipe}, {model.max_length} tokens, {len(model.tflite):,} bytes")
    return model


def _evaluate_command(job: Job, logits_file: pathlib.Path) -> list[str]:
    command = ["python", "-m", "converters.evaluate_tflite"]
    command += [f"--model={short(job.folder / MODEL)}", f"--data={job.test}"]
    return [*command, f"--logits={short(logits_file)}"]


def _report(
    job: Job, run: Run, model: Model, tflm: np.ndarray, text_bytes: int, steps: _Steps
) -> dict:
    """Runs the board, compares every form of the model on the same rows, and says what it costs."""
    examples = examples_lib.read_all(job.test, model.pair)
    numbers, rows = _device_rows(job, model, examples, text_bytes)
    csv = job.folder / board_lib.DEVICE_ROWS
    logits_file = job.folder / board_lib.DEVICE_LOGITS
    examples_lib.write_csv(csv, rows)
    with steps("evaluate on the board", job.board.eval_command(csv, logits_file, len(rows))):
        own = job.board.evaluate(csv, logits_file, len(rows))
        print(job_report.board_line(own))
    sizes = None
    if job.target != board_lib.HOST:
        with steps("size of the firmware", job.board.command("size")):
            sizes = job.board.sizes()
            print(f"flash {sizes['flash_bytes']:,} bytes, RAM {sizes['ram_bytes']:,} bytes")
    device = board_lib.read_logits(logits_file, len(rows), tflm.shape[1])
    all_rows = Evaluation(run, examples, job.test, "report")
    some_rows = Evaluation(run, [examples[n] for n in numbers], job.test, "report")
    report = {
        "name": job.name,
        **job_report.of_model(run, model),
        **job_report.compare(all_rows, some_rows, model, tflm, tflm[numbers], device),
        "device_figures": own,
        "target": job.target,
        **job_report.sizes(model, sizes),
    }
    report["seconds"] = steps.seconds
    return report


def _device_rows(
    job: Job, model: Model, examples: list[Example], text_bytes: int
) -> tuple[list[int], list[Example]]:
    """Returns the numbers of the rows that the board gets, and the rows as it can read them."""
    numbers = board_lib.draw(len(examples), job.device_limit)
    fitting = board_lib.fitting_rows(model, [examples[n] for n in numbers], text_bytes)
    kept = [(n, row) for n, row in zip(numbers, fitting, strict=True) if row is not None]
    if len(kept) < len(numbers):
        warnings.warn(
            f"{job.test}: {len(numbers) - len(kept)} of {len(numbers)} texts are longer than the "
            f"{text_bytes:,} bytes that {job.target} holds, and are left out there",
            errors.EmbBertWarning,
            stacklevel=2,
        )
    if not kept:
        raise errors.DataError(f"{job.test}: no text is short enough for {job.target}")
    return [n for n, _ in kept], [row for _, row in kept]
