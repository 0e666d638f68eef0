"""The page that says what a model of the zoo is and how it was made."""

from typing import Any

from converters.zoo import layout
from embbert_tf.storage import packed_weights, run_folder

# Flags that name files, of which a run keeps the hashes.
_FILES = ("soft_labels", "teacher", "unlabelled")
# Recorded by runs from before these flags of QAT were removed; every run is so now.
_REMOVED = {"steps": "learnt", "consistency": 0.0}


def card(name: str, run: run_folder.Run, record: dict[str, Any]) -> str:
    """Returns the model card: Markdown for people.

    Args:
        name: Of the folder below `zoo/`.
        run: The run that the weights come from.
        record: What `zoo.json` holds.
    """
    what = f"{len(run.labels)} labels"
    if run.task == "regression":
        what = "Regression"
    elif run.task == "encoder":
        what = f"Encoder with rows of {run.model.num_labels} numbers, which learns labels"
    lines = [
        f"# {name}",
        "",
        f"{what}; {'pairs of texts' if run.pair else 'one text'}, up to {record['max_length']} "
        f"tokens in `model.tflite` and {run.config.max_length} when converted anew. "
        f"{run.model.count_params():,} parameters.",
    ]
    if record["note"]:
        lines += ["", record["note"]]
    lines += ["", "## Origin", "", *_origin(record["origin"])]
    lines += ["", "```sh", *_commands(name, record), "```", ""]
    return "\n".join([*lines, *_weights(record), ""])


def _origin(about: dict[str, Any]) -> list[str]:
    """Says who trained the weights, from what, and what chose the epoch."""
    training = about["training"]
    if about["imported"]:
        return [
            f"Imported by `embbert_tf.import_checkpoint` from `{about['imported']}`: trained "
            "elsewhere."
        ]
    if not training:
        return ["Unknown: `config.json` of the run does not say."]
    start = "random weights"
    if about["backbone"]:
        start = f"weights with SHA-256 `{about['backbone']['sha256'][:16]}…`"
        if "folder" in about["backbone"]:
            came = about["backbone"]["origin"]
            imported = came.get("imported") if isinstance(came, dict) else None
            start = f"`{about['backbone']['folder']}`"
            start += f" (imported from `{imported}`)" if imported else ""
    if "embeddings_sha256" in training:
        return [
            f"Trained by this project's commands from {start}, with seed {about['seed']}, on texts "
            f"and embeddings with SHA-256 `{training['embeddings_sha256'][:16]}…`; no epoch was "
            "chosen."
        ]
    chosen = "the best" if layout.chosen_on_validation(about) else "no"
    rows = "rows held out of the training data."
    if training.get("valid_sha256"):
        rows = f"`--valid` (SHA-256 `{training['valid_sha256'][:16]}…`)."
    return [
        f"Trained by this project's commands from {start}, with seed {about['seed']}; {chosen} "
        f"epoch was chosen on {rows}"
    ]


def _commands(name: str, record: dict[str, Any]) -> list[str]:
    """Returns the commands that make the folder."""
    about, training = record["origin"], record["origin"]["training"]
    encoder = "embeddings_sha256" in training
    lines = []
    if training and not about["imported"]:
        start = about["backbone"]
        initial = f" --init={start.get('folder', 'INIT')}" if start else ""
        command = "train_encoder --embeddings=EMBEDDINGS" if encoder else "train --train=TRAIN"
        lines.append(f"python -m embbert_tf.{command}{initial} {_flags_of(training)} --output=RUN")
    valid = " --valid=VALID" if about["imported"] else ""
    return [
        *lines,
        f"python -m embbert_tf.qat --run=RUN --train={'EMBEDDINGS' if encoder else 'TRAIN'}{valid} "
        + _flags_of(about.get("qat", {})),
        f"python -m converters.zoo.add --run=RUN --calibration=TRAIN "
        f"{'--valid=VALID ' if encoder else ''}--max_length="
        f"{record['max_length']} --recipe={record['recipe']} --output=zoo/{name}",
    ]


def _flags_of(values: dict[str, Any]) -> str:
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


def _weights(record: dict[str, Any]) -> list[str]:
    """Says what rounding cost, and how large the model is."""
    sizes = record["sizes"]
    lines = [
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
    return [
        *lines,
        "",
        f"`model.tflite`: {sizes['file']:,} bytes, TFLM arena {sizes['arena']:,} bytes (smallest "
        "that runs, 64-bit host).",
    ]
