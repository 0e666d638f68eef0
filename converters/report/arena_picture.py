"""Draws an `arena_map.ArenaMap`: as lines for a terminal, and as a PNG."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from converters.report import arena_map
from converters.tflm import timeline
from embbert_tf.data import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 64
_ROWS = 40
_OTHERS = "others"
_MOST_KINDS = 11
_GREY = "#d5d8dc"
_EDGE = "#34495e"
_RED = "#922b21"


def lines(arena: arena_map.ArenaMap) -> list[str]:
    """Returns the map as text: a row an operator, a column a 64th of the arena's head.

    `o` is what the operator makes, `#` what else is alive, `.` what is free. Long models get one
    row for several operators, the one with most bytes in use.
    """
    count = len(arena.steps)
    stride = -(-count // _ROWS)
    cell = max(arena.head_bytes, 1) / _COLUMNS
    rows = []
    for start in range(0, count, stride):
        step = max(range(start, min(start + stride, count)), key=lambda i: arena.in_use[i])
        if start <= arena.peak < start + stride:
            step = arena.peak
        row = ["."] * _COLUMNS
        for block in sorted(arena.alive(step), key=lambda b: b.first == step):
            low = int(block.offset / cell)
            high = max(low + 1, round((block.offset + block.size) / cell))
            mark = "o" if block.first == step else "#"
            row[low:high] = mark * (min(high, _COLUMNS) - low)
        note = "  <- peak" if step == arena.peak else ""
        label = arena.steps[step].label[:30]
        rows.append(f"{label:>30} |{''.join(row)}| {arena.in_use[step]:>9,}{note}")
    return rows


def write_png(
    arena: arena_map.ArenaMap,
    path: files.PathLike,
    title: str,
    tail_bytes: int | None = None,
) -> None:
    """Writes the map as a picture: operators to the right, bytes of the arena upwards.

    Args:
        arena: The map.
        path: The PNG.
        title: Heading.
        tail_bytes: Bytes that TFLM keeps for good at the arena's end, drawn as a band; None if
            unknown.

    Raises:
        FileError: The file cannot be written.
    """
    import matplotlib
    from matplotlib.backends import backend_agg
    from matplotlib.figure import Figure

    count = len(arena.steps)
    figure = Figure(figsize=(min(max(9.0, 2.5 + count * 0.13), 24.0), 7.0), layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    head = max(arena.head_bytes, 1)
    colours = _colours(arena, matplotlib.color_sequences["Set3"])
    for block in arena.blocks:
        if block.first >= 0:
            _draw_block(axes, arena, block, colours)
    top = head
    if tail_bytes:
        top = head + tail_bytes
        axes.axhspan(head, top, color="#bfc9ca")
        axes.text(
            count / 2 - 0.5,
            head + tail_bytes / 2,
            f"tail: {tail_bytes:,} bytes that the interpreter keeps for good",
            ha="center",
            va="center",
            fontsize=7,
        )
    _draw_use(axes, arena)
    _draw_legend(axes, colours)
    axes.set_xlim(-0.5, max(count - 0.5, 0.5))
    axes.set_ylim(0, top * 1.03)
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.set_ylabel("byte of the arena")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    ticks = range(0, count, -(-count // 90))
    axes.set_xticks(ticks)
    labels = [arena.steps[i].label for i in ticks]
    axes.set_xticklabels(labels, rotation=90, fontsize=6, parse_math=False)
    files.write_atomic(path, lambda target: figure.savefig(target, format="png", dpi=110))


def _draw_block(
    axes: "Axes", arena: arena_map.ArenaMap, block: arena_map.Block, colours: dict[str, Any]
) -> None:
    """Draws the bytes and the life of one block, with its label where there is room."""
    from matplotlib import patches

    count = len(arena.steps)
    width = block.last - block.first + 1
    axes.add_patch(
        patches.Rectangle(
            (block.first - 0.5, block.offset),
            width,
            block.size,
            facecolor=colours.get(_kind(arena, block), _GREY),
            edgecolor=_EDGE,
            linewidth=0.6,
            alpha=0.85,
        )
    )
    if block.size > max(arena.head_bytes, 1) * 0.035 and width > count * 0.025:
        axes.text(
            block.first - 0.5 + width / 2,
            block.offset + block.size / 2,
            f"{_shorten(block.label, int(2 + 110 * width / count))}\n{block.size:,}",
            ha="center",
            va="center",
            fontsize=6.5,
            clip_on=True,
            parse_math=False,
        )


def _draw_use(axes: "Axes", arena: arena_map.ArenaMap) -> None:
    """Draws the bytes in use over time, and where they are most."""
    use = [float(n) for n in arena.in_use]
    axes.step(range(len(use)), use, where="mid", color=_RED, lw=1.2)
    axes.axvline(arena.peak, color=_RED, lw=1.0, ls="--")
    axes.annotate(
        f"peak: {arena.steps[arena.peak].label}, {arena.in_use[arena.peak]:,} bytes",
        (arena.peak, use[arena.peak]),
        xytext=(6, 5),
        textcoords="offset points",
        fontsize=8,
        color=_RED,
        parse_math=False,
    )


def _draw_legend(axes: "Axes", colours: dict[str, Any]) -> None:
    from matplotlib import patches

    handles = [
        patches.Patch(facecolor=colour, edgecolor=_EDGE, label=kind)
        for kind, colour in colours.items()
    ]
    handles.append(patches.Patch(facecolor=_RED, label="bytes in use"))
    axes.legend(
        handles=handles,
        title="made by",
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        fontsize=7,
        title_fontsize=8,
    )


def _kind(arena: arena_map.ArenaMap, block: arena_map.Block) -> str:
    """What the block's colour stands for."""
    op = arena.steps[block.first].op
    if block.role == "scratch" or op is None:
        return "scratch" if block.role == "scratch" else "graph input"
    return timeline.operator_name(op)


def _colours(arena: arena_map.ArenaMap, palette: Sequence[Any]) -> dict[str, Any]:
    """Gives the kinds that take most bytes, over time, a colour each."""
    weight: dict[str, int] = {}
    for block in arena.blocks:
        if block.first >= 0:
            kind = _kind(arena, block)
            weight[kind] = weight.get(kind, 0) + block.size * (block.last - block.first + 1)
    kinds = sorted(weight, key=weight.__getitem__, reverse=True)
    colours = dict(zip(kinds[:_MOST_KINDS], palette, strict=False))
    if len(kinds) > _MOST_KINDS:
        colours[_OTHERS] = _GREY
    return colours


def _shorten(label: str, width: int) -> str:
    """Cuts a label; of a tensor's own name the end tells most, of a number the start."""
    if len(label) <= width:
        return label
    if width < 4:
        return ""
    return label[: width - 1] + "…" if label.startswith("#") else "…" + label[1 - width :]
