"""What is known of a model without running it: its run, its training, arena, flash, versions."""

import dataclasses
import hashlib
import importlib.metadata
import pathlib
from typing import Any

import markupsafe

from converters.evaluation.model import Model
from converters.firmware import model_image
from converters.page.costs import Costs
from converters.report import arena_map, arena_picture, fidelity
from converters.tflite import reader
from converters.tflm import arena_model, target, timeline
from embbert_tf import errors
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.data.files import PathLike
from embbert_tf.storage import run_folder
from embbert_tf.storage.run_folder import Run

_ARENA_CORES = ("cortex-m4", "cortex-m55")
# Of `model_image.Kind`, by what people call them.
_IMAGE_PARTS = {
    "TOKENIZER": "tokenizer tables",
    "EMBED_TOKEN": "token embeddings",
    "EMBED": "embedder",
    "BLOCK": "layers",
    "HEAD": "head",
}
_WEIGHTS = "weights"


@dataclasses.dataclass(frozen=True)
class Missing:
    """What the page does not show.

    Attributes:
        what: The part, as a noun.
        why: Why not, or how to get it.
    """

    what: str
    why: str


def name_of(model: Model) -> str:
    """Returns what to call the model: `build/snips/model` is "snips", `zoo/snips` too."""
    folder = model.tflite_path.parent.resolve()
    return folder.parent.name if folder.name == "model" and folder.parent.name else folder.name


def find_run(model: Model, given: str | None, missing: list[Missing]) -> Run | None:
    """Returns the run that a model was converted from, or None where there is none at hand.

    Args:
        model: The model.
        given: The run folder that the user names; otherwise the likely ones are looked at.
        missing: Grows by what there is to say.

    Raises:
        RunError: The one that was named cannot be read, or is another model's.
    """
    folder = model.tflite_path.parent
    if given is not None:
        return _load_run(given, model)
    for candidate in (folder, folder / "../run"):
        if (candidate / run_folder.CONFIG).is_file() and run_folder.is_trained(candidate):
            try:
                return _load_run(candidate, model)
            except errors.EmbBertError as error:
                missing.append(Missing("The float model", str(error)))
                return None
    missing.append(Missing("The float model", "name the run folder with --run=FOLDER"))
    return None


def _load_run(path: PathLike, model: Model) -> Run:
    """Loads a run; that it is another model's is found before its weights are read.

    Raises:
        RunError: It cannot be read, or is another model's.
    """
    settings, labels = run_folder.read_settings(path), pathlib.Path(path) / run_folder.LABELS
    same = (settings.get("task"), settings.get("pair")) == (model.task, model.pair)
    if not same or (model.labels and run_folder.read_labels(labels) != model.labels):
        raise errors.RunError(
            f"{path}: not the run of {model.path}: task, pairs or labels are other ones"
        )
    run = run_folder.load_run(path)
    if not isinstance(run.config, BaselineConfig):
        fidelity.float_model(run, model.tflite)  # refuses one whose weights are others
    return run


def parameters(run: Run | None) -> int | None:
    """Returns the number of parameters of the float model."""
    return None if run is None else int(run.model.count_params())


def _metrics(model: Model, run: Run | None) -> dict[str, Any]:
    found = run.metrics if run is not None else model.settings.get("metrics")
    return found if isinstance(found, dict) else {}


def history(model: Model, run: Run | None) -> dict[str, list[dict[str, Any]]]:
    """Returns loss and validation figure of each epoch, by stage of the training."""
    found = _metrics(model, run)
    names = {"fp32": "fp32", "qat": "quantization-aware"}
    stages = {names[stage]: found[stage].get("history", []) for stage in names if stage in found}
    return {name: epochs for name, epochs in stages.items() if epochs}


def learnt(model: Model, run: Run | None) -> list[tuple[str, str, dict[str, float]]]:
    """Returns (stage, rows, figures) that the training itself has measured."""
    result = []
    for stage, measured in _metrics(model, run).items():
        for rows in ("valid", "test"):
            figures = measured.get(rows, {}) if isinstance(measured, dict) else {}
            numbers = {name: value for name, value in figures.items() if isinstance(value, float)}
            if numbers:
                result.append((stage, "validation" if rows == "valid" else "test", numbers))
    return result


def arena(model: Model, missing: list[Missing]) -> dict[str, Any] | None:
    """Returns the arena on TFLM: predictions by core, and a picture."""
    graphs = reader.read_all(model.tflite)
    try:
        found = [arena_model.predict(graphs, target.make(c, "cmsis_nn")) for c in _ARENA_CORES]
        drawn = arena_map.build(graphs, found[0].scratch)
    except timeline.ArenaError as error:
        missing.append(Missing("The arena on TFLM", str(error)))
        return None
    title = f"{name_of(model)}: arena on {found[0].target.label}"
    parts = {"head": found[0].head_bytes, "tail": found[0].tail_bytes, "arena": found[0].bytes}
    # The picture's texts, tensors' names among them, are escaped by what draws it.
    picture = markupsafe.Markup(arena_picture.svg(drawn, title, parts))
    return {"predictions": found, "picture": picture, "title": title}


def flash_parts(costs: Costs | None, image: bytes | None, model: Model) -> dict[str, int]:
    """Returns bytes of flash by part: of the firmware, or of what is known without it."""
    if image is None:
        return {"model.tflite": len(model.tflite)}
    parts: dict[str, int] = {}
    for section in model_image.unpack(image):
        kind = section.kind.name
        name = _IMAGE_PARTS.get(kind) or _IMAGE_PARTS.get(kind.partition("_")[0], "labels and more")
        parts[name] = parts.get(name, 0) + len(section.data)
    if costs is None:
        return parts
    # What the linker calls weights is the image but for the tokenizer's tables.
    tables = _IMAGE_PARTS["TOKENIZER"]
    code = {name: size for name, size in costs.flash.items() if name not in (_WEIGHTS, tables)}
    gaps = sum(costs.flash.get(name, 0) for name in (_WEIGHTS, tables)) - sum(parts.values())
    parts["labels and more"] = parts.get("labels and more", 0) + max(gaps, 0)
    return parts | code


def versions(
    model: Model,
    run: Run | None,
    image: bytes | None,
    costs: Costs | None,
    box: dict[str, Any] | None,
) -> list[tuple[str, str]]:
    """Returns what made model and page, as (name, value)."""
    found = [("model.tflite, SHA-256", hashlib.sha256(model.tflite).hexdigest())]
    text = (model.tokenizer_json or model.tokenizer.to_str(pretty=True)).encode()
    found.append(("tokenizer.json, SHA-256", hashlib.sha256(text).hexdigest()))
    if image is not None:
        found.append(("model image, SHA-256", hashlib.sha256(image).hexdigest()))
    found.append(("model made by", str(model.settings.get("generator", "unknown"))))
    for name, version in (model.settings.get("versions") or {}).items():
        found.append((f"{name}, at the conversion", str(version)))
    recipe = model.settings.get("recipe")
    if isinstance(recipe, dict) and "name" in recipe:
        found.append(("recipe", str(recipe["name"])))
    if run is not None:
        options = run_folder.read_settings(run.path).get("training", {})
        found.append(("seed of the training", str(options.get("seed", "unknown"))))
    if costs is not None:
        found.append(("firmware's compiler", costs.compiler))
    if box is not None:
        found.append(("compiler of this page's program", box["compiler"]))
    found.append(("this page", f"embbert-tflm {_own_version()}"))
    return found


def _own_version() -> str:
    try:
        return importlib.metadata.version("embbert-tflm")
    except importlib.metadata.PackageNotFoundError:
        return "of a checkout"
