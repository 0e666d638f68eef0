"""Makes a folder of `zoo/` from a run that quantization-aware training has finished.

Packs the weights, converts them to the length that covers 99.5 % of the
validation texts, records sizes and a few logits, and writes a model card. The folder is a run
folder and a model folder in one (`converters/zoo/layout.py` lists its files). Nothing
of it is written unless all of it fits into 2 MB.

Example:
  python -m converters.zoo.add --run=build/snips --calibration=train.csv --output=zoo/snips

Of a backbone folder it makes zoo/backbone, with the same weights file:
  python -m converters.zoo.add --run=build/pretrained --output=zoo/backbone
"""

import contextlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from absl import app, flags

from calibration import recipes, samples
from converters.evaluation import evaluation, labelled_rows
from converters.portable import convert
from converters.portable.options import ConvertOptions
from converters.tflite import model_folder
from converters.tflm import arena_probe
from converters.zoo import layout, model_card
from embbert_tf import cli
from embbert_tf.baselines.config import BaselineConfig
from embbert_tf.data import batches, encoding, files
from embbert_tf.data.examples import Example
from embbert_tf.storage import backbone_folder, packed_weights, run_folder
from embbert_tf.training import embedding_targets

# Beside the run's own files. What training measured stays as it was: of unrounded weights.
_COPIED = (run_folder.CONFIG, run_folder.RANGES, run_folder.STEPS, "qat.json", run_folder.METRICS)


def write_packed_run(run: run_folder.Run, path: pathlib.Path) -> None:
    """Writes the files of a run folder with packed weights.

    Args:
        run: A run with its quantization-aware training finished.
        path: An existing folder.

    Raises:
        ZooError: The run has no quantization-aware training.
        PackedWeightsError: A weight is not finite, or too large.
    """
    if run.qat_model is None:
        raise layout.ZooError(
            f"{run.path}: no quantization-aware training; run `python -m embbert_tf.qat` first"
        )
    for name in _COPIED:
        if (run.path / name).exists():
            shutil.copyfile(run.path / name, path / name)
    run_folder.write_labels(path / run_folder.LABELS, run.labels)
    _write_tokenizer(run.path, path)
    packed = packed_weights.pack(
        list(run_folder.weight_shapes(run.model)),
        run.model.get_weights(),
        run.qat_model.classifier.get_weights(),
    )
    (path / packed_weights.PACKED).write_bytes(packed)


def _write_tokenizer(source: pathlib.Path, target: pathlib.Path) -> None:
    """Less than half the size of what `tokenizers` writes, and the same to every JSON reader."""
    tokenizer = files.read_json(source / run_folder.TOKENIZER)
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (target / run_folder.TOKENIZER).write_text(text + "\n", encoding="utf-8")


def write_backbone(source: pathlib.Path, path: pathlib.Path) -> None:
    """Writes the files of `zoo/backbone` into an existing folder.

    The weights' file stays the same to the byte, as runs that start from it are told by its hash.

    Raises:
        RunError: `source` is no backbone folder.
    """
    backbone_folder.load_embbert(source)
    for name in (run_folder.CONFIG, backbone_folder.BACKBONE):
        shutil.copyfile(source / name, path / name)
    _write_tokenizer(source, path)


def origin(run: run_folder.Run, backbone: files.PathLike) -> dict[str, Any]:
    """Returns where the weights of a run come from, for `zoo.json`.

    Args:
        run: The run.
        backbone: Backbone folder that it may have started from.
    """
    settings = run_folder.read_settings(run.path)
    training = settings.get("training", {})
    result = {
        "imported": settings.get("origin", {}).get("imported"),
        "seed": training.get("seed"),
        "training": training,
        "backbone": None,
    }
    qat = run.path / "qat.json"
    if qat.exists():
        result["qat"] = files.read_json(qat).get("qat", {})
    initial = training.get("init_sha256")
    if initial:
        result["backbone"] = {"sha256": initial}
        weights = backbone_folder.weights_path(backbone)
        if weights.exists() and files.sha256(weights) == initial:
            about = run_folder.read_settings(backbone).get("origin", {})
            result["backbone"] |= {"folder": "zoo/backbone", "origin": about}
    return result


def _rounding(
    run: run_folder.Run, packed: run_folder.Run, examples: list[Example], path: str
) -> dict[str, Any]:
    """Metrics on validation rows before and after the weights were rounded."""
    if run.task == "encoder":
        return _rounding_of_rows(run, packed, examples)
    shown = ("accuracy", "matthews", "f1") if run.labels else ("pearson", "spearman")
    result: dict[str, Any] = {"count": len(examples)}
    for kind, before, after in (
        ("fp32", run.model, packed.model),
        ("qat", run.qat_model, packed.qat_model),
    ):
        one, other = (evaluation.Evaluation(owner, examples, path, kind) for owner in (run, packed))
        measured, rounded = one.metrics(one.keras(before)), other.metrics(other.keras(after))
        result[kind] = {key: [measured[key], rounded[key]] for key in shown if key in measured}
    return result


def _rounding_of_rows(
    run: run_folder.Run, packed: run_folder.Run, examples: list[Example]
) -> dict[str, Any]:
    """Mean cosine of an encoder's rows with those of its fp32 model, before and after rounding."""
    limit = run.config.max_length
    ids = encoding.encode_all(run.tokenizer, examples, False, limit)
    fp32 = batches.predict(run.model, ids)
    result: dict[str, Any] = {"count": len(examples)}
    for kind, before, after in (
        ("fp32", run.model, packed.model),
        ("qat", run.qat_model, packed.qat_model),
    ):
        rows = [batches.predict(model, ids) for model in (before, after)]
        result[kind] = {"cosine": [embedding_targets.mean_cosine(row, fp32) for row in rows]}
    return result


@contextlib.contextmanager
def _staging(source: pathlib.Path, output: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a folder to write to, which takes the place of `output` at the end.

    Raises:
        ZooError: It is too large; `output` is as it was.
    """
    files.make_folder(output.parent)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=output.parent) as scratch:
        staging = pathlib.Path(scratch) / output.name
        staging.mkdir()
        yield staging
        size = layout.folder_bytes(staging)
        if size > layout.MAX_BYTES:
            raise layout.ZooError(
                f"{source}: makes a folder of {size:,} bytes; the zoo takes at most "
                f"{layout.MAX_BYTES:,}. A smaller vocabulary or preset fits"
            )
        old = staging.with_name(staging.name + ".old")
        if output.exists():
            output.rename(old)
        try:
            staging.rename(output)
        except OSError:
            if old.exists():
                old.rename(output)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _run_of(source: pathlib.Path) -> run_folder.Run:
    """Reads a run; ZooError if it is of one of the models that EmbBERT is compared with."""
    config = run_folder.read_config(source)
    if isinstance(config, BaselineConfig):
        raise layout.ZooError(f"{source}: {config.what}; the zoo holds EmbBERT alone")
    return run_folder.load_run(source)


def add(
    source: pathlib.Path,
    output: pathlib.Path,
    calibration: str,
    *,
    valid: str | None = None,
    max_length: int = 0,
    recipe: str = "qat",
    backbone: files.PathLike = layout.ROOT / layout.BACKBONE,
    note: str = "",
) -> dict[str, Any]:
    """Makes the folder of a task.

    Args:
        source: Run folder, after quantization-aware training.
        output: Folder to write, such as zoo/snips.
        calibration: CSV to draw representative samples from.
        valid: CSV of validation texts; None: the rows that the run held out.
        max_length: Tokens of the graph; 0: what 99.5 % of the validation texts need.
        recipe: Quantization scheme.
        backbone: Backbone folder that the run may have started from.
        note: A sentence for the model card.

    Returns:
        What `zoo.json` holds.

    Raises:
        ZooError: The run is not fit for the zoo.
        EmbBertError: As the steps do.
    """
    _check_output(source, output, layout.RECORD)
    run = _run_of(source)
    rows = evaluation.validation_csv(run.path, valid)
    examples = labelled_rows.read_sample(rows)
    limit = run.config.max_length
    lengths = [len(ids) for ids in encoding.encode_all(run.tokenizer, examples, run.pair, limit)]
    max_length = max_length or samples.covering_length(lengths, limit)
    with _staging(source, output) as staging:
        write_packed_run(run, staging)
        packed = run_folder.load_run(staging)
        model = convert.convert(
            packed,
            calibration=calibration,
            validation=None if run.task == "regression" else rows,
            recipe=recipe,
            options=ConvertOptions(max_length=max_length),
        ).save(staging)
        record = {
            "origin": origin(run, backbone),
            "note": note,
            "max_length": max_length,
            "covered": sum(n <= max_length for n in lengths) / len(lengths),
            "recipe": recipe,
            "rounding": _rounding(run, packed, examples, str(rows)),
            **_figures(model),
        }
        files.write_json(staging / layout.RECORD, record)
        files.write_text(staging / layout.CARD, model_card.card(output.name, run, record))
    return record


def _figures(model: model_folder.ModelFolder) -> dict[str, Any]:
    """Returns sizes of a saved model, and logits to check a copy by."""
    return {
        "sizes": {
            "file": len(model.tflite),
            "arena": arena_probe.measure(model.tflite_path)["smallest_bytes"],
        },
        "checks": {
            "texts": [list(texts) for texts in layout.CHECK_TEXTS],
            "logits": evaluation.check_logits(model, layout.CHECK_TEXTS),
        },
    }


def add_backbone(source: pathlib.Path, output: pathlib.Path) -> None:
    """Makes `zoo/backbone`.

    Args:
        source: Backbone folder.
        output: Folder to write.

    Raises:
        ZooError: It is too large, or something else is in its place.
        RunError: `source` is no backbone folder.
    """
    _check_output(source, output, backbone_folder.BACKBONE)
    with _staging(source, output) as staging:
        write_backbone(source, staging)


def _check_output(source: pathlib.Path, output: pathlib.Path, known_by: str) -> None:
    """Keeps a folder of something else from being replaced.

    Raises:
        ZooError: `output` is such a folder, or `source`.
    """
    if output.exists() and not output.is_dir():
        raise layout.ZooError(f"{output}: a file is in the way; take another --output")
    if output.exists() and not (output / known_by).exists() and any(output.iterdir()):
        raise layout.ZooError(
            f"{output}: not empty, and no folder of the zoo; take another --output"
        )
    if output.resolve() == source.resolve():
        raise layout.ZooError(f"{output}: --run and --output are the same folder")


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    strings = {
        "run": (None, "Run folder, after `python -m embbert_tf.qat`."),
        "calibration": (None, "CSV to draw representative samples from (training data)."),
        "valid": (
            None,
            "CSV of validation texts; default the rows that the run held out (not of an encoder).",
        ),
        "output": (None, "Folder to write, such as zoo/snips."),
        "backbone": (
            str(layout.ROOT / layout.BACKBONE),
            "Backbone folder that the run may have started from.",
        ),
        "note": ("", "A sentence for the model card."),
    }
    for name, (default, meaning) in strings.items():
        flags.DEFINE_string(name, default, meaning, flag_values=values)
    flags.DEFINE_integer(
        "max_length",
        0,
        "Tokens of the graph; 0: what 99.5 % of the validation texts need.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "recipe",
        "qat",
        [name for name, recipe in recipes.RECIPES.items() if recipe.qat_weights],
        "Quantization scheme of the shipped .tflite.",
        flag_values=values,
    )
    flags.mark_flags_as_required(["run", "output"], flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Makes the folder and prints its figures."""
    source, output = pathlib.Path(values.run), pathlib.Path(values.output)
    if run_folder.read_settings(source).get("task") == backbone_folder.TASK:
        add_backbone(source, output)
        print(f"{output}: {layout.folder_bytes(output):,} bytes")
        return
    if values.calibration is None:
        raise app.UsageError("say --calibration=CSV, the data that the run was trained on")
    record = add(
        source,
        output,
        values.calibration,
        valid=values.valid,
        max_length=values.max_length,
        recipe=values.recipe,
        backbone=values.backbone,
        note=values.note,
    )
    for kind in ("fp32", "qat"):
        for metric, (before, after) in record["rounding"][kind].items():
            print(f"validation {kind} {metric} {100 * before:.2f}, rounded {100 * after:.2f}")
    print(
        f"{output}: {layout.folder_bytes(output):,} bytes; S={record['max_length']} covers "
        f"{100 * record['covered']:.2f} % of the validation texts; .tflite "
        f"{record['sizes']['file']:,} bytes, arena {record['sizes']['arena']:,} bytes"
    )


if __name__ == "__main__":
    cli.run(define_flags, main)
