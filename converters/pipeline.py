"""The main job, end to end: from a CSV file to int8 logits on an emulated Cortex-M.

Trains, fine-tunes with quantization, converts, evaluates on TFLM and on a board. Each step shows
the command that does the same by hand. A step whose result is already there and still fits is
quick: training resumes where it was killed. Ends with a table, and with `report.json` and
`report.html` in `build/<name>/`.

Example:
  python -m converters.pipeline --train=train.csv --test=test.csv --name=snips
"""

import dataclasses
import importlib
import pathlib
import shlex
from typing import Any

from absl import flags

from converters.evaluation import board
from converters.page.options import PageOptions
from converters.portable.options import ConvertOptions
from converters.tflite import model_folder
from embbert_tf import cli, errors
from embbert_tf.data import examples
from embbert_tf.training.options import QatOptions, TrainOptions

BACKBONE = pathlib.Path(__file__).resolve().parents[1] / "zoo/backbone"
PAGE = "report.html"
# With one of these, a model does not start from the backbone.
_OTHER_START = ("init", "preset", "architecture", "tokenizer", "vocab_size")


def _names(options: type) -> set[str]:
    return {field.name for field in dataclasses.fields(options)}


# By step: its command, and the flags of it that a user may add.
_COMMANDS = {
    "train": ("embbert_tf.train", _names(TrainOptions)),
    "qat": ("embbert_tf.qat", _names(QatOptions)),
    "convert": ("converters.convert_tflite", _names(ConvertOptions) | {"recipe"}),
}


@dataclasses.dataclass(frozen=True)
class _Parsed:
    """The flags of a step's command, and its command line."""

    values: flags.FlagValues
    line: list[str]


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""

    def text(name: str, default: str | None, meaning: str, required: bool = False) -> None:
        flags.DEFINE_string(name, default, meaning, required=required, flag_values=values)

    text("train", None, "Training CSV: text,label or text,text_pair,label.", required=True)
    text("test", None, "Test CSV.", required=True)
    text("valid", None, "Validation CSV; without it, training holds out a part of --train.")
    text("name", "demo", "Name of the job; results go to <build>/<name>/.")
    text("build", "build", "Folder for results.")
    text("target", "mps2-an386", "Board that firmware is built and run for.")
    text("init", None, "As of embbert_tf.train; default zoo/backbone, empty for random weights.")
    text("task", None, "As of embbert_tf.train: classification, or regression for scores.")
    text("train_flags", "", "More flags for embbert_tf.train.")
    text("qat_flags", "", "More flags for embbert_tf.qat.")
    text("convert_flags", "", "More flags for convert_tflite.py.")
    flags.DEFINE_integer(
        "device_limit",
        0,
        "Run only this many test rows, drawn by a seed, on the board; 0 runs all.",
        lower_bound=0,
        flag_values=values,
    )


def main(values: flags.FlagValues) -> None:
    """Runs the job and prints its table."""
    from converters.evaluation import job as job_lib
    from converters.evaluation import job_report

    job = _job(values, job_lib)
    report = job_lib.run_job(job)
    page = _write_page(job, report)
    task = f"{len(report['labels'])} labels" if report["labels"] else "a score"
    print(
        f"\n== {report['name']}: {task}, {report['count']} test rows, "
        f"{report['parameters']:,} parameters, {report['max_length']} tokens, "
        f"{sum(report['seconds'].values()):.0f} s"
    )
    print(job_report.table(report))
    print(f"  report: {job.folder / job_lib.REPORT}")
    print(f"  page: {page}")
    if not report["device_equals_reference"]:
        raise errors.EmbBertError("the board's logits differ from the reference")


def _write_page(job: Any, report: dict[str, Any]) -> pathlib.Path:
    """Writes the page of a finished job and returns its path."""
    from converters.evaluation import job as job_lib
    from converters.page import page

    model, path = job.folder / job_lib.MODEL, job.folder / PAGE
    command = ["python", "-m", "converters.report_page", f"--model={board.short(model)}"]
    command += [f"--data={job.test}", f"--output={board.short(path)}"]
    print(f"\n== write the page\n   {shlex.join(command)}", flush=True)
    run = str(job.folder / job_lib.RUN)
    options = PageOptions(run=run, measure=job.target != board.HOST)
    finished = page.Job(job.folder, report, job.test)
    return page.write_page(model, path, options, finished).path


def _job(values: flags.FlagValues, job_lib: Any) -> Any:
    """Returns the job that the flags of this command, and those within them, describe."""
    if not values.name.strip("./"):
        raise errors.OptionError(f"--name={values.name}: give the job a name")
    folder = pathlib.Path(values.build) / values.name
    run = folder / job_lib.RUN
    data = [f"--train={values.train}", f"--test={values.test}"]
    own = [*data, f"--output={run}"]
    own += [f"--valid={values.valid}"] if values.valid else []
    own += [f"--task={values.task}"] if values.task else []
    train = _train_flags(own, values)
    qat = _parsed("qat", [f"--run={run}", *data], values)
    own = [f"--run={run}", f"--calibration={values.train}"]
    own += [f"--validation={values.valid or run / examples.VALID_CSV}"]
    own += [f"--output={folder / job_lib.MODEL / model_folder.TFLITE}"]
    convert = _parsed("convert", own, values)
    return job_lib.Job(
        name=values.name,
        folder=folder,
        train=values.train,
        test=values.test,
        valid=values.valid,
        target=values.target,
        device_limit=values.device_limit,
        train_options=cli.options_of(TrainOptions, train.values),
        qat_options=cli.options_of(QatOptions, qat.values),
        recipe=convert.values.recipe,
        convert_options=cli.options_of(ConvertOptions, convert.values),
        commands={"train": train.line, "qat": qat.line, "convert": convert.line},
    )


def _train_flags(own: list[str], values: flags.FlagValues) -> _Parsed:
    """Returns the flags of the training; with the backbone to start from, unless told otherwise."""
    parsed = _parsed("train", own, values)
    init = values.init
    told = init is not None or any(parsed.values[name].present for name in _OTHER_START)
    if not told and BACKBONE.is_dir():
        init = board.short(BACKBONE)
    return _parsed("train", [*own, f"--init={init}"], values) if init else parsed


def _parsed(step: str, own: list[str], values: flags.FlagValues) -> _Parsed:
    """Parses the flags of a step's command: the job's own, and those in its flag of this command.

    Raises:
        OptionError: A flag is unknown or has a bad value, or is the job's to set.
    """
    module, allowed = _COMMANDS[step]
    more = f"{step}_flags"
    parsed = flags.FlagValues()
    importlib.import_module(module).define_flags(parsed)
    try:
        given = shlex.split(values[more].value)
        rest = parsed([module, *given, *own])[1:]
    except (flags.Error, ValueError) as error:
        raise errors.OptionError(f"--{more}: {error}") from error
    if rest:
        raise errors.OptionError(f"--{more}: {rest[0]!r} is no flag of {module}")
    ours = {flag[2:].partition("=")[0] for flag in own}
    for name in parsed:
        if parsed[name].present > (name in ours) and (name in ours or name not in allowed):
            raise errors.OptionError(f"--{more}: --{name} is the job's to set; leave it away")
    return _Parsed(parsed, ["python", "-m", module, *own, *given])


if __name__ == "__main__":
    cli.run(define_flags, main)
