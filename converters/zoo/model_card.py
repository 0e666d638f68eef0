"""The page that says what a model of the zoo is and how it was made."""

from converters.zoo import layout
from embbert_tf.storage import packed_weights, run_folder

# Flags that name files, of which a run keeps the hashes.
_FILES = ("soft_labels", "teacher", "unlabelled")
# Recorded by runs from before these flags of QAT were removed; every run is so now.
_REMOVED = {"steps": "learnt", "consistency": 0.0}


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


def card(name: str, run: run_folder.Run, record: dict) -> str:
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
            + ("the best" if layout.chosen_on_validation(about) else "no")
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
        f"python -m converters.zoo.add --run=RUN --calibration=TRAIN --max_length="
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
