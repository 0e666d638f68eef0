"""The picture of `fidelity`: SNR by kind and layer, and what loses most."""

import pathlib
from typing import Any

import numpy as np

from converters.report.fidelity import Fidelity, kinds_in_order, layer_of, rank_layers, split
from embbert_tf.data import files
from embbert_tf.data.files import PathLike


def write_png(fidelity: dict[str, Fidelity], path: PathLike, title: str) -> None:
    """Writes a picture: SNR by kind and layer, and both rankings.

    Args:
        fidelity: By name.
        path: The PNG.
        title: Heading.

    Raises:
        FileError: The file cannot be written.
    """
    from matplotlib.backends import backend_agg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 6.4), layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[1.1, 1.0])
    _draw_grid(figure, left, fidelity)
    _draw_rankings(right, fidelity)
    figure.suptitle(title, fontsize=10)
    files.write_atomic(
        pathlib.Path(path), lambda target: figure.savefig(target, format="png", dpi=110)
    )


def _draw_grid(figure: Any, axes: Any, fidelity: dict[str, Fidelity]) -> None:
    """Draws SNR by kind of activation and layer."""
    inner = [f for f in fidelity.values() if f.name not in ("x0", "logits")]
    layers = 1 + max(layer_of(f.name) for f in inner)
    kinds = kinds_in_order(f.name for f in inner)
    grid = np.full((len(kinds), layers), np.nan)
    for f in inner:
        row, column = kinds.index(split(f.name)[0]), layer_of(f.name)
        grid[row, column] = f.snr_db
        note = f"{f.snr_db:.1f}"
        if f.clipped >= 0.0005:
            note += f"\n{f.clipped:.1%} clipped"
        axes.text(column, row, note, ha="center", va="center", fontsize=7)
    image = axes.imshow(grid, cmap="RdYlGn", vmin=0, vmax=45, aspect="auto")
    figure.colorbar(image, ax=axes, label="SNR against fp32, dB (green: faithful)")
    axes.set_xticks(range(layers), [f"layer {i}" for i in range(layers)])
    axes.set_yticks(range(len(kinds)), [f"{k} (output)" if k == "x" else k for k in kinds])
    axes.set_title(
        f"embedder x0: {fidelity['x0'].snr_db:.1f} dB,  logits: {fidelity['logits'].snr_db:.1f} dB",
        fontsize=9,
    )


def _draw_rankings(axes: Any, fidelity: dict[str, Fidelity]) -> None:
    """Draws the layers by what they lose and the tensors by their own noise."""
    worst = sorted(fidelity.values(), key=lambda f: f.own_snr_db)[:12]
    losses = rank_layers(fidelity)
    names = [f"layer {layer}: SNR lost" for layer, _, _ in losses]
    names += [f"{f.name}: own SNR" for f in worst]
    values = [loss for _, _, loss in losses] + [f.own_snr_db for f in worst]
    colours = ["#922b21"] * len(losses) + ["#2e86c1"] * len(worst)
    axes.barh(range(len(values)), values, color=colours)
    axes.bar_label(axes.containers[0], fmt="%.1f", fontsize=7, padding=2)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("dB")
    axes.set_title(
        "red: layers by the SNR they lose (long: bad)\n"
        "blue: tensors by their own rounding and clipping (short: bad)",
        fontsize=9,
    )
