"""Writes the page: gathers what is known of a model, says what is missing, fills the template."""

import base64
import dataclasses
import hashlib
import pathlib
from typing import Any

import jinja2
import markupsafe

from converters.evaluation import model as model_lib
from converters.evaluation.board import BoardError
from converters.evaluation.model import Model
from converters.firmware import from_model_folder, model_image, sources
from converters.page import answers as answers_lib
from converters.page import browser, charts, costs, facts, views
from converters.page.answers import Answers
from converters.page.facts import Missing
from converters.page.options import PageOptions
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.data import files
from embbert_tf.storage.run_folder import Run

GENERATOR = "converters/report_page.py"
# What chooses the best epoch, by task.
_VALID_NAMES = {"classification": "accuracy", "regression": "correlation", "encoder": "cosine"}
_FOLDER = pathlib.Path(__file__).parent / "templates"
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=True,
)
_TEMPLATES.filters["grouped"] = lambda number: f"{number:,}"
_TEMPLATES.filters["percent"] = lambda share, digits=2: f"{100 * share:.{digits}f} %"


@dataclasses.dataclass(frozen=True)
class Job:
    """What the main job has measured already.

    Attributes:
        folder: Its folder.
        report: Its report.
        data: Its test file.
    """

    folder: pathlib.Path
    report: dict[str, Any]
    data: str


@dataclasses.dataclass(frozen=True)
class Page:
    """A page that was written.

    Attributes:
        path: The file.
        size: Bytes of it.
        missing: What is not on it, and why.
    """

    path: pathlib.Path
    size: int
    missing: list[Missing]

    def summary(self) -> str:
        """Returns a line for people, and one for each part that is missing."""
        lines = [f"{self.path}: {self.size:,} bytes"]
        return "\n".join([*lines, *(f"without {m.what}: {m.why}" for m in self.missing)])


def write_page(
    model: files.PathLike,
    output: files.PathLike,
    options: PageOptions | None = None,
    job: Job | None = None,
) -> Page:
    """Writes a page that shows a model and runs it; it needs no other file and no network.

    What cannot be given, for want of data, of a run or of a tool, is left out, and the page says
    how to get it.

    Args:
        model: The model folder.
        output: The file.
        options: Data, run and more.
        job: Of the main job, whose answers are shown then; the data of the options is not read.

    Raises:
        EmbBertError: The model, the data or the run that was named cannot be used, or the file
            cannot be written.
    """
    options = options or PageOptions()
    files.check_target(output)
    loaded = model_lib.load_model(sources.model(model))
    rows = None if options.data is None else answers_lib.read(loaded, options.data, options.limit)
    missing: list[Missing] = []
    run = facts.find_run(loaded, options.run, missing)
    image = _image(loaded, missing)
    found_costs = _costs(loaded, options.measure, missing) if image is not None else None
    if job is not None:
        answers: Answers | None = answers_lib.of_job(job.folder, job.report, loaded, job.data)
    elif rows is not None:
        board = found_costs is not None
        answers = answers_lib.of_rows(loaded, run, rows, kernels=image is not None, board=board)
    else:
        answers = None
        why = "give labelled rows with --data=test.csv"
        if loaded.task == "encoder":
            why = "an encoder has no labels of its own; it learns them on the device"
        missing.append(Missing("Accuracy, confusions and wrong answers", why))
    content = _content(loaded, run, image, answers, found_costs, missing)
    text = _TEMPLATES.get_template("page.html.j2").render(content)
    files.write_text(output, text)
    return Page(pathlib.Path(output), len(text.encode()), missing)


def _image(model: Model, missing: list[Missing]) -> bytes | None:
    """Returns the model image, or None where the kernels do not take the model."""
    try:
        return from_model_folder.image_of(model)
    except from_model_folder.FirmwareError as error:
        missing.append(Missing("The board", f"no firmware takes the model: {error}"))
        return None


def _content(
    model: Model,
    run: Run | None,
    image: bytes | None,
    answers: Answers | None,
    found_costs: costs.Costs | None,
    missing: list[Missing],
) -> dict[str, Any]:
    """Returns what the template says."""
    box = _box(model, image, found_costs, missing) if image is not None else None
    style = markupsafe.Markup((_FOLDER / "style.css").read_text(encoding="utf-8"))
    script = (_FOLDER / "box.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    content: dict[str, Any] = {
        "name": facts.name_of(model),
        "model": model,
        "style": style,
        "script": markupsafe.Markup(script),
        "script_hash": f"sha256-{digest}",
        "costs": found_costs,
        "exactness": costs.exactness(found_costs.instructions) if found_costs else "",
        "processor": f"{costs.PROCESSOR} ({costs.TARGET})",
        "box": box,
        "answers": answers,
        "learning": charts.learning(facts.history(model, run)),
        "learnt": facts.learnt(model, run),
        "valid_name": _VALID_NAMES.get(model.task, "figure"),
        "arena": facts.arena(model, missing),
        "flash": charts.bar(facts.flash_parts(found_costs, image, model)),
        "ram": charts.bar(found_costs.ram) if found_costs else [],
        "parameters": facts.parameters(run),
        "tensors": _tensors(model, run, answers, missing),
        "versions": facts.versions(model, run, image, found_costs, box),
        "generator": GENERATOR,
        "chart_size": (charts.WIDTH, charts.HEIGHT),
    }
    if not content["learning"]:
        missing.append(Missing("The learning curve", "model.json says nothing of the training"))
    return content | _views(model, answers) | {"missing": missing}


def _views(model: Model, answers: Answers | None) -> dict[str, Any]:
    """Returns what the template shows of answers; all None without any."""
    names = ("confusion", "classes", "wrong", "wrong_count", "certainty", "scores", "scatter")
    result: dict[str, Any] = dict.fromkeys(names)
    if answers is None:
        return result
    if not model.labels:
        scores = views.scores(model, answers)
        return result | {"scores": scores, "scatter": charts.scatter(scores["points"])}
    wrong, count = views.wrong_answers(model, answers)
    return result | {
        "confusion": views.confusion(answers.targets, answers.logits),
        "classes": views.classes(model, answers),
        "wrong": wrong,
        "wrong_count": count,
        "certainty": views.certainty(model, answers),
    }


def _costs(model: Model, wanted: bool, missing: list[Missing]) -> costs.Costs | None:
    why = "it was not asked for; leave --nomeasure away"
    try:
        if wanted:
            return costs.of_model(model.tflite_path.parent, model.max_length)
    except BoardError as error:
        why = str(error)
    missing.append(Missing("Flash, RAM and instructions of the firmware", why))
    return None


def _box(
    model: Model, image: bytes, found: costs.Costs | None, missing: list[Missing]
) -> dict[str, Any] | None:
    """Returns what the box needs: program, image, and what its script has to know."""
    what = "The box to type into"
    if model.task == "encoder":
        missing.append(Missing(what, "an encoder answers what it learns at the firmware's prompt"))
        return None
    try:
        program, compiler = browser.program(), browser.compiler()
    except browser.BrowserError as error:
        missing.append(Missing(what, str(error)))
        return None
    shape = model_image.shape(image)
    vocabulary = {number: token for token, number in model.tokenizer.get_vocab().items()}
    return {
        "program": base64.b64encode(program).decode(),
        "program_bytes": len(program),
        "compiler": compiler,
        "image": base64.b64encode(image).decode(),
        "image_bytes": len(image),
        "settings": {
            "pair": model.pair,
            "labels": model.labels,
            "scale": float(model.settings["output"]["scale"]),
            "maxTokens": shape.max_length,
            "tokens": [vocabulary.get(n, "") for n in range(max(vocabulary, default=-1) + 1)],
            "instructions": found.instructions if found else [],
            "perByte": found.per_byte if found else 0,
        },
    }


def _tensors(
    model: Model, run: Run | None, answers: Answers | None, missing: list[Missing]
) -> dict[str, Any] | None:
    what = "The error of each tensor"
    if run is None or answers is None:
        lacking = "a run folder (--run=FOLDER)" if run is None else "rows (--data=test.csv)"
        missing.append(Missing(what, f"it needs {lacking}"))
        return None
    if isinstance(run.config, BaselineConfig):
        missing.append(
            Missing(what, f"it is told of EmbBERT's graph, and this is {run.config.what}")
        )
        return None
    found, reference, rows = answers_lib.tensors(model, run, answers.examples)
    return views.tensors(found) | {"reference": reference, "rows": rows}
