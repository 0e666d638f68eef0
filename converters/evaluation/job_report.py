"""What the main job reports: every form of a model on the same rows, and what it costs."""

from collections.abc import Sequence

import numpy as np

from converters.evaluation.evaluation import Evaluation
from converters.evaluation.model import Model
from converters.tflm import arena_probe
from embbert_tf.storage.run_folder import Run

_SHOWN = {"classification": ("accuracy", "macro_f1"), "regression": ("pearson", "spearman")}
_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "pearson": "Pearson",
    "spearman": "Spearman",
}
_COLUMN = 16


def of_model(run: Run, model: Model) -> dict:
    """Returns what the report says of the model itself."""
    return {
        "task": model.task,
        "pair": model.pair,
        "labels": model.labels,
        "parameters": int(run.model.count_params()),
        "max_length": model.max_length,
        "confidence_threshold": model.settings["confidence_threshold"],
        "recipe": model.settings["recipe"]["name"],
        "versions": model.settings["versions"],
    }


def compare(
    rows: Evaluation,
    device_rows: Evaluation,
    model: Model,
    tflm: np.ndarray,
    tflm_of_device_rows: np.ndarray,
    device: np.ndarray,
) -> dict:
    """Measures every form of the model, and how far one agrees with the next.

    Args:
        rows: The test rows.
        device_rows: Those of them that the board got.
        model: The converted model.
        tflm: int8 logits (rows, L) on TFLM.
        tflm_of_device_rows: Those of `device_rows`.
        device: int8 logits (device rows, L) on the board.

    Returns:
        `count` and `device_count`; `metrics` by form (`fp32`, `qat`, `tflm`, `device`);
        `agreement` by pair of forms; `device_equals_reference`: whether every logit of the board is
        that of `converters.kernels.reference`.
    """
    run = rows.run
    real = {"fp32": rows.keras(run.model)}
    if run.qat_model is not None:
        real["qat"] = rows.keras(run.qat_model)
    real["tflm"] = model.dequantize(tflm)
    measured = {form: rows.metrics(logits) for form, logits in real.items()}
    measured["device"] = device_rows.metrics(model.dequantize(device))
    alike = {
        f"{form}_tflm": agreement(logits, real["tflm"], model.labels)
        for form, logits in real.items()
        if form != "tflm"
    }
    alike["tflm_device"] = agreement(
        model.dequantize(tflm_of_device_rows), model.dequantize(device), model.labels
    )
    expected = device_rows.fused(model.tflite, model.max_length)
    return {
        "count": len(tflm),
        "device_count": len(device),
        "metrics": measured,
        "agreement": alike,
        "device_equals_reference": bool(np.array_equal(device, expected)),
    }


def agreement(one: np.ndarray, other: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """Returns how far two forms of a model say the same.

    Args:
        one: Real logits (count, L); of a regression, scores in the user's unit.
        other: Those of the other form.
        labels: Class names; empty for a regression.

    Returns:
        `labels`: share of rows with the same label. Of a regression: `pearson` of the two,
        `mean_difference` and `largest_difference` in the score's unit.
    """
    if labels:
        return {"labels": float(np.mean(one.argmax(axis=1) == other.argmax(axis=1)))}
    from embbert_tf.training import metrics

    first, second = one.astype(np.float64)[:, 0], other.astype(np.float64)[:, 0]
    difference = np.abs(first - second)
    return {
        "pearson": metrics.regression(first, second)["pearson"],
        "mean_difference": float(difference.mean()),
        "largest_difference": float(difference.max()),
    }


def sizes(model: Model, firmware: dict | None) -> dict:
    """Returns what the model needs on TFLM, and with the project's kernels as firmware.

    Args:
        model: The saved model.
        firmware: What `Board.sizes` returns; None where nothing was built for a device.

    Raises:
        ProbeError: TFLM cannot run the model.
    """
    arena = arena_probe.measure(model.tflite_path)
    return {
        "tflite_bytes": len(model.tflite),
        "arena_head_bytes": arena["head_bytes"],
        "arena_tail_bytes": arena["tail_bytes"],
        "arena_min_bytes": arena["smallest_bytes"],
        **{name: (firmware or {}).get(name) for name in ("flash_bytes", "ram_bytes", "compiler")},
    }


def board_line(own: dict) -> str:
    """Returns the figures that a board printed of its rows as one line."""
    figures = [f"{own['count']} rows"]
    for name in ("accuracy", "macro_f1", "pearson", "mean_absolute_error"):
        if name in own:
            figures.append(f"{name.replace('_', ' ')} {own[name]:.4f}")
    for unit in ("instructions", "cycles"):
        if own.get(unit):
            figures.append(f"{own[unit] / own['count']:,.0f} {unit} a row")
    return ", ".join(figures)


def table(report: dict) -> str:
    """Returns the report's figures as a table for people."""
    shown = _SHOWN[report["task"]]
    target, on_board = report["target"], report["device_count"]
    forms = {
        "fp32": "fp32 (Keras)",
        "qat": "QAT (Keras)",
        "tflm": "int8 (TFLM, host)",
        "device": f"int8 ({target}{f', {on_board} rows' if on_board < report['count'] else ''})",
    }
    lines = [("", *(_NAMES[name] for name in shown))]
    for form, title in forms.items():
        if form in report["metrics"]:
            own = report["device_figures"] if form == "device" else {}
            values = report["metrics"][form] | own
            lines.append((title, *(_figure(values[name], report["task"]) for name in shown)))
    names = {"fp32_tflm": "fp32 and TFLM", "tflm_device": f"TFLM and {target}"}
    for key, title in names.items():
        lines.append((f"agreement, {title}", _agreement(report["agreement"][key])))
    equal = "true" if report["device_equals_reference"] else "FALSE"
    lines += [
        ("board's logits equal to the reference", equal),
        (".tflite", f"{report['tflite_bytes']:,} bytes"),
        ("TFLM arena, smallest that runs", f"{report['arena_min_bytes']:,} bytes"),
    ]
    if report["flash_bytes"] is not None:
        lines += [
            ("firmware flash, weights included", f"{report['flash_bytes']:,} bytes"),
            ("firmware RAM, stack included", f"{report['ram_bytes']:,} bytes"),
        ]
    width = max(len(title) for title, *_ in lines)
    text = [
        f"  {title:<{width}}" + "".join(f"{value:>{_COLUMN}}" for value in values)
        for title, *values in lines
    ]
    if report["task"] == "regression":
        text.append(f"  Spearman of {target} is the host's figure, from the board's logits.")
    return "\n".join(line.rstrip() for line in text)


def _figure(value: float, task: str) -> str:
    return f"{100 * value:.2f} %" if task == "classification" else f"{value:.4f}"


def _agreement(figures: dict) -> str:
    if "labels" in figures:
        return f"{100 * figures['labels']:.2f} %"
    return (
        f"{figures['pearson']:.4f}  ({figures['mean_difference']:.3g} apart on average, "
        f"{figures['largest_difference']:.3g} at most)"
    )
