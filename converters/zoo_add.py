"""Makes a folder of `zoo/` from a run that quantization-aware training has finished.

Packs the weights, converts them to the length that covers 99.5 % of the
validation texts, records sizes and a few logits, and writes a model card. The folder is a run
folder and a model folder in one (`converters/zoo.py` lists its files). Nothing of it is written
unless all of it fits into 2 MB.

Example:
  python -m converters.zoo_add --run=build/snips --calibration=train.csv --output=zoo/snips

Of a backbone folder it makes zoo/backbone, with the same weights file:
  python -m converters.zoo_add --run=build/pretrained --output=zoo/backbone
"""

import json
import pathlib
import shutil
import sys
import tempfile

from absl import app, flags

from calibration import recipes, samples
from converters import accuracy, commands, labelled_rows, model_folder, tflm_probe, zoo
from embbert_tf import backbone_run, packed_weights, tasks
from embbert_tf import data as data_lib
from embbert_tf import run as run_lib

_RUN = flags.DEFINE_string("run", None, "Run folder, after `python -m embbert_tf.qat`.")
_CALIBRATION = flags.DEFINE_string(
    "calibration", None, "CSV to draw representative samples from (training data)."
)
_VALID = flags.DEFINE_string(
    "valid", None, "CSV of validation texts; default the rows that the run held out."
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write, such as zoo/snips.")
_MAX_LENGTH = flags.DEFINE_integer(
    "max_length", 0, "Tokens of the graph; 0: what 99.5 % of the validation texts need.", 0
)
_RECIPE = flags.DEFINE_enum(
    "recipe",
    "qat",
    [name for name, recipe in recipes.RECIPES.items() if recipe.qat_weights],
    "Quantization scheme of the shipped .tflite.",
)
_BACKBONE = flags.DEFINE_string(
    "backbone", str(zoo.ROOT / zoo.BACKBONE), "Backbone folder that the run may have started from."
)
_NOTE = flags.DEFINE_string("note", "", "A sentence for the model card.")
# Flags that name files, of which a run keeps the hashes.
_FILES = ("soft_labels", "teacher", "unlabelled")
# Recorded by runs from before these flags of QAT were removed; every run is so now.
_REMOVED = {"steps": "learnt", "consistency": 0.0}
# Beside the run's own files. What training measured stays as it was: of unrounded weights.
_COPIED = (run_lib.CONFIG, run_lib.RANGES, "qat.json", run_lib.METRICS)


def write_packed_run(run: run_lib.Run, path: pathlib.Path) -> None:
    """Writes the files of a run folder with packed weights.

    Args:
      run: A run with its quantization-aware training finished.
      path: An existing folder.

    Raises:
      ZooError: The run has no quantization-aware training.
      PackedWeightsError: A weight is not finite, or too large.
    """
    if run.qat_model is None:
        raise zoo.ZooError(
            f"{run.path}: no quantization-aware training; run `python -m embbert_tf.qat` first"
        )
    for name in _COPIED:
        if (run.path / name).exists():
            shutil.copyfile(run.path / name, path / name)
    run_lib.write_labels(path / run_lib.LABELS, run.labels)
    _write_tokenizer(run.path, path)
    packed = packed_weights.pack(
        list(run_lib.weight_shapes(run.model)),
        run.model.get_weights(),
        run.qat_model.classifier.get_weights(),
    )
    (path / packed_weights.PACKED).write_bytes(packed)


def _write_tokenizer(source: pathlib.Path, target: pathlib.Path) -> None:
    """Less than half the size of what `tokenizers` writes, and the same to every JSON reader."""
    tokenizer = run_lib.read_json(source / run_lib.TOKENIZER)
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (target / run_lib.TOKENIZER).write_text(text + "\n", encoding="utf-8")


def write_backbone(source: pathlib.Path, path: pathlib.Path) -> None:
    """Writes the files of `zoo/backbone` into an existing folder.

    The weights' file stays the same to the byte, as runs that start from it are told by its hash.

    Raises:
      RunError: `source` is no backbone folder.
    """
    backbone_run.load_backbone(source)
    for name in (run_lib.CONFIG, backbone_run.BACKBONE):
        shutil.copyfile(source / name, path / name)
    _write_tokenizer(source, path)


def origin(run: run_lib.Run, backbone: str) -> dict:
    """Returns where the weights of a run come from, for `zoo.json`.

    Args:
      run: The run.
      backbone: Backbone folder that it may have started from.
    """
    settings = run_lib.read_settings(run.path)
    training = settings.get("training", {})
    result = {
        "imported": settings.get("origin", {}).get("imported"),
        "seed": training.get("seed"),
        "training": training,
        "backbone": None,
    }
    qat = run.path / "qat.json"
    if qat.exists():
        result["qat"] = run_lib.read_json(qat).get("qat", {})
    initial = training.get("init_sha256")
    if initial:
        result["backbone"] = {"sha256": initial}
        weights = backbone_run.weights_path(backbone)
        if weights.exists() and run_lib.sha256(weights) == initial:
            about = run_lib.read_settings(backbone).get("origin", {})
            result["backbone"] |= {"folder": "zoo/backbone", "origin": about}
    return result


def _flags_of(values: dict) -> str:
    shown = []
    for name, value in sorted(values.items()):
        if value is None or (name in _REMOVED and value == _REMOVED[name]):
            continue
        # Files are known by their hash. A run has --train in any case, and --valid is said above.
        file = name.removesuffix("_sha256")
        if file == name:
            shown.append(f"--{name}={value}")
        elif file in _FILES and value:
            shown.append(f"--{file}={','.join([file.upper()] * len(value))}")
    return " ".join(shown)


def card(name: str, run: run_lib.Run, record: dict) -> str:
    """Returns the model card: Markdown for people."""
    about, training, sizes = record["origin"], record["origin"]["training"], record["sizes"]
    what = "Regression" if run.task == "regression" else f"{len(run.labels)} labels"
    lines = [f"# {name}", ""]
    lines.append(
        f"{what}; {'pairs of texts' if run.pair else 'one text'}, up to {record['max_length']} "
        f"tokens in `model.tflite` and {run.config.max_length} when converted anew. "
        f"{run.model.count_params():,} parameters."
    )
    if record["note"]:
        lines += ["", record["note"]]
    lines += ["", "## Origin", ""]
    if about["imported"]:
        lines.append(
            f"Imported by `embbert_tf.import_checkpoint` from `{about['imported']}`: trained "
            "elsewhere."
        )
    elif training:
        start = "random weights"
        if about["backbone"]:
            start = f"weights with SHA-256 `{about['backbone']['sha256'][:16]}…`"
            if "folder" in about["backbone"]:
                came = about["backbone"]["origin"]
                imported = came.get("imported") if isinstance(came, dict) else None
                start = f"`{about['backbone']['folder']}`"
                start += f" (imported from `{imported}`)" if imported else ""
        lines.append(
            f"Trained by this project's commands from {start}, with seed {about['seed']}; "
            + ("the best" if zoo.chosen_on_validation(about) else "no")
            + " epoch was chosen on "
            + (
                f"`--valid` (SHA-256 `{training['valid_sha256'][:16]}…`)."
                if training.get("valid_sha256")
                else "rows held out of the training data."
            )
        )
        initial = " --init=zoo/backbone" if "folder" in (about["backbone"] or {}) else ""
        lines += [
            "",
            "```sh",
            f"python -m embbert_tf.train --train=TRAIN{initial} {_flags_of(training)} --output=RUN",
        ]
    else:
        lines.append("Unknown: `config.json` of the run does not say.")
        lines += ["", "```sh"]
    if about["imported"]:
        lines += ["", "```sh"]
    valid = " --valid=VALID" if about["imported"] else ""
    lines += [
        f"python -m embbert_tf.qat --run=RUN --train=TRAIN{valid} "
        + _flags_of(about.get("qat", {})),
        f"python -m converters.zoo_add --run=RUN --calibration=TRAIN --max_length="
        f"{record['max_length']} --recipe={record['recipe']} --output=zoo/{name}",
        "```",
        "",
        "## Weights",
        "",
        "`weights.npz` holds the fp32 weights and those after quantization-aware training, with "
        f"fractions rounded to {packed_weights.FRACTION_BITS} bits; every figure of the table in "
        "`zoo/README.md` is of the rounded weights. "
        f"On the {record['rounding']['count']:,} validation rows:",
        "",
        "| | as trained | rounded |",
        "| --- | ---: | ---: |",
    ]
    for kind, shown in (("fp32", "fp32"), ("qat", "QAT")):
        for metric, (before, after) in record["rounding"][kind].items():
            lines.append(f"| {shown}, {metric} | {100 * before:.2f} | {100 * after:.2f} |")
    lines += [
        "",
        f"`model.tflite`: {sizes['file']:,} bytes, TFLM arena {sizes['arena']:,} bytes (smallest "
        "that runs, 64-bit host).",
        "",
    ]
    return "\n".join(lines)


def _rounding(run, packed, examples, path) -> dict:
    """Metrics on validation rows before and after the weights were rounded."""
    shown = ("accuracy", "matthews", "f1") if run.labels else ("pearson", "spearman")
    result = {"count": len(examples)}
    for kind, before, after in (
        ("fp32", run.model, packed.model),
        ("qat", run.qat_model, packed.qat_model),
    ):
        one, other = (accuracy.Evaluation(owner, examples, path, kind) for owner in (run, packed))
        measured, rounded = one.metrics(one.keras(before)), other.metrics(other.keras(after))
        result[kind] = {key: [measured[key], rounded[key]] for key in shown if key in measured}
    return result


def _replace(staging: pathlib.Path, output: pathlib.Path) -> None:
    """Puts a finished folder in the place of another, unless it is too large.

    Raises:
      ZooError: It is.
    """
    size = zoo.folder_bytes(staging)
    if size > zoo.MAX_BYTES:
        raise zoo.ZooError(
            f"{_RUN.value}: makes a folder of {size:,} bytes; the zoo takes at most "
            f"{zoo.MAX_BYTES:,}. A smaller vocabulary or preset fits"
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


def add() -> dict:
    """Makes the folder; returns what `zoo.json` holds.

    Raises:
      ZooError: The run is not fit for the zoo.
      RunError, DataError, PackedWeightsError, ModelFolderError, ProbeError, CommandError: As the
        steps do.
    """
    output = pathlib.Path(_OUTPUT.value)
    _check_output(pathlib.Path(_RUN.value), output, zoo.RECORD)
    run = run_lib.load_run(_RUN.value)
    valid = accuracy.validation_csv(run.path, _VALID.value)
    examples = labelled_rows.read_sample(valid)
    limit = run.config.max_length
    lengths = [len(ids) for ids in tasks.encode_all(run.tokenizer, examples, run.pair, limit)]
    max_length = _MAX_LENGTH.value or samples.covering_length(lengths, limit)

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=output.parent) as scratch:
        staging = pathlib.Path(scratch) / output.name
        staging.mkdir()
        write_packed_run(run, staging)
        packed = run_lib.load_run(staging)
        arguments = [
            f"--run={staging}",
            f"--calibration={_CALIBRATION.value}",
            f"--output={staging / model_folder.TFLITE}",
            f"--max_length={max_length}",
            f"--recipe={_RECIPE.value}",
        ]
        if run.task == "classification":
            arguments.append(f"--validation={valid}")
        commands.run("converters.convert_tflite", *arguments)
        folder = model_folder.load(staging)
        record = {
            "origin": origin(run, _BACKBONE.value),
            "note": _NOTE.value,
            "max_length": max_length,
            "covered": sum(n <= max_length for n in lengths) / len(lengths),
            "recipe": _RECIPE.value,
            "rounding": _rounding(run, packed, examples, valid),
            "sizes": {
                "file": len(folder.tflite),
                "arena": tflm_probe.measure(staging / model_folder.TFLITE)["smallest_bytes"],
            },
            "checks": {
                "texts": [list(texts) for texts in zoo.CHECK_TEXTS],
                "logits": accuracy.check_logits(folder, zoo.CHECK_TEXTS),
            },
        }
        run_lib.write_json(staging / zoo.RECORD, record)
        (staging / zoo.CARD).write_text(card(output.name, run, record), encoding="utf-8")
        _replace(staging, output)
    return record


def add_backbone() -> None:
    """Makes `zoo/backbone`.

    Raises:
      ZooError: It is too large, or something else is in its place.
      RunError: --run is no backbone folder.
    """
    source, output = pathlib.Path(_RUN.value), pathlib.Path(_OUTPUT.value)
    _check_output(source, output, backbone_run.BACKBONE)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=output.parent) as scratch:
        staging = pathlib.Path(scratch) / output.name
        staging.mkdir()
        write_backbone(source, staging)
        _replace(staging, output)


def _check_output(source: pathlib.Path, output: pathlib.Path, known_by: str) -> None:
    """Keeps a folder of something else from being replaced.

    Raises:
      ZooError: `output` is such a folder, or `source`.
    """
    if output.exists() and not (output / known_by).exists() and any(output.iterdir()):
        raise zoo.ZooError(f"{output}: not empty, and no folder of the zoo; take another --output")
    if output.resolve() == source.resolve():
        raise zoo.ZooError(f"{output}: --run and --output are the same folder")


def main(argv):
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument '{argv[1]}'")
    try:
        if run_lib.read_settings(_RUN.value).get("task") == backbone_run.TASK:
            add_backbone()
            print(f"{_OUTPUT.value}: {zoo.folder_bytes(_OUTPUT.value):,} bytes")
            return
        if _CALIBRATION.value is None:
            raise zoo.ZooError("say --calibration=CSV, the data that the run was trained on")
        record = add()
    except (
        zoo.ZooError,
        run_lib.RunError,
        data_lib.DataError,
        packed_weights.PackedWeightsError,
        model_folder.ModelFolderError,
        tflm_probe.ProbeError,
        commands.CommandError,
        OSError,
    ) as error:
        sys.exit(f"zoo_add: {error}")
    for kind in ("fp32", "qat"):
        for metric, (before, after) in record["rounding"][kind].items():
            print(f"validation {kind} {metric} {100 * before:.2f}, rounded {100 * after:.2f}")
    size = zoo.folder_bytes(_OUTPUT.value)
    print(
        f"{_OUTPUT.value}: {size:,} bytes; S={record['max_length']} covers "
        f"{100 * record['covered']:.2f} % of the validation texts; .tflite "
        f"{record['sizes']['file']:,} bytes, arena {record['sizes']['arena']:,} bytes"
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["run", "output"])
    app.run(main)
