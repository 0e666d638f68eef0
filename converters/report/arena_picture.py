"""Draws an `arena_map.ArenaMap`: as lines for a terminal, as a PNG, and as SVG."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from converters.report import arena_map
from converters.tflm import timeline
from embbert_tf.data import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_COLUMNS = 64
_ROWS = 40
_OTHERS = "others"
_MOST_KINDS = 11
_MOST_LABELS = 300
_GREY = "#d5d8dc"
_EDGE = "#34495e"
_RED = "#922b21"
_BARS = ("#5d6d7e", "#aab7b8", "#2e86c1")
_TICK_POINTS = 6.0
# Inches that the legend and the figures beside the axis take.
_MARGIN = 3.4


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
    arena: arena_map.ArenaMap, path: files.PathLike, title: str, parts: dict[str, int]
) -> None:
    """Writes the map as a picture: operators to the right, bytes of the arena upwards.

    Args:
        arena: The map.
        path: The PNG.
        title: Heading.
        parts: Name and bytes of the arena's parts, drawn as bars: head, tail, the whole.

    Raises:
        FileError: The file cannot be written.
    """
    figure = draw(arena, title, parts)
    files.write_atomic(path, lambda target: figure.savefig(target, format="png", dpi=110))


def svg(arena: arena_map.ArenaMap, title: str, parts: dict[str, int]) -> str:
    """Returns the same picture as an `<svg>` element to put into a page."""
    import matplotlib

    figure = draw(arena, title, parts)
    stream = io.StringIO()
    # The same file for the same map; text stays text.
    with matplotlib.rc_context({"svg.hashsalt": "arena", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def draw(arena: arena_map.ArenaMap, title: str, parts: dict[str, int]) -> "Figure":
    """Returns the picture as a figure; no label in it lies over another one."""
    import matplotlib
    from matplotlib.backends import backend_agg
    from matplotlib.figure import Figure

    count = len(arena.steps)
    width = min(max(9.0, 2.5 + count * 0.13), 24.0)
    figure = Figure(figsize=(width, 9.0), layout="constrained")
    backend_agg.FigureCanvasAgg(figure)
    bars, use, head = figure.subplots(
        3, 1, gridspec_kw={"height_ratios": [0.18 * max(len(parts), 1), 1.3, 5.5]}
    )
    figure.suptitle(_shorten(title, int(width * 11)), fontsize=10, parse_math=False)
    _draw_parts(bars, parts)
    _draw_use(use, arena)
    colours = _colours(arena, matplotlib.color_sequences["Set3"])
    for block in arena.blocks:
        if block.first >= 0:
            _draw_block(head, arena, block, colours)
    _draw_legend(head, colours)
    head.set_ylim(0, max(arena.head_bytes, 1) * 1.01)
    head.set_ylabel("byte of the head")
    for axes in (use, head):
        axes.set_xlim(-0.5, max(count - 0.5, 0.5))
        axes.yaxis.set_major_formatter("{x:,.0f}")
    use.set_xticks([])
    room = max((width - _MARGIN) * 72 / (_TICK_POINTS * 1.5), 1)
    ticks = range(0, count, max(1, -(-count // int(room))))
    head.set_xticks(ticks)
    head.set_xticklabels(
        [arena.steps[i].label[:28] for i in ticks],
        rotation=90,
        fontsize=_TICK_POINTS,
        parse_math=False,
    )
    _label_blocks(figure, head, arena)
    return figure


def _draw_parts(axes: "Axes", parts: dict[str, int]) -> None:
    """Draws head and tail as bars of their own, so that the smaller one can be read too."""
    most = max([*parts.values(), 1])
    for row, (size, colour) in enumerate(zip(parts.values(), _BARS, strict=False)):
        axes.barh(-row, max(size, most / 400), height=0.7, color=colour)
    axes.set_yticks([-row for row in range(len(parts))])
    axes.set_yticklabels([f"{name} {size:,}" for name, size in parts.items()], fontsize=8)
    axes.set_xlim(0, most)
    axes.set_xticks([])
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def _draw_use(axes: "Axes", arena: arena_map.ArenaMap) -> None:
    """Draws the bytes in use over time, and names where they are most."""
    use = [float(n) for n in arena.in_use]
    axes.step(range(len(use)), use, where="mid", color=_RED, lw=1.2)
    axes.axvline(arena.peak, color=_RED, lw=1.0, ls="--")
    axes.set_ylim(0, max([*use, 1.0]) * 1.1)
    axes.set_ylabel("in use")
    right = arena.peak > len(use) / 2
    name = f"peak: {arena.in_use[arena.peak]:,} bytes at {arena.steps[arena.peak].label}"
    axes.set_title(name, fontsize=8, color=_RED, loc="right" if right else "left", parse_math=False)


def _draw_block(
    axes: "Axes", arena: arena_map.ArenaMap, block: arena_map.Block, colours: dict[str, Any]
) -> None:
    """Draws the bytes and the life of one block."""
    from matplotlib import patches

    axes.add_patch(
        patches.Rectangle(
            (block.first - 0.5, block.offset),
            block.last - block.first + 1,
            block.size,
            facecolor=colours.get(_kind(arena, block), _GREY),
            edgecolor=_EDGE,
            linewidth=0.6,
            alpha=0.85,
        )
    )


def _label_blocks(figure: "Figure", axes: "Axes", arena: arena_map.ArenaMap) -> None:
    """Writes names into the blocks that have room for them, the largest first."""
    for _ in range(2):  # The layout of the labels beside an axis needs its size, and changes it.
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    taken: list[Bbox] = []
    blocks = sorted(
        (b for b in arena.blocks if b.first >= 0),
        key=lambda b: -b.size * (b.last - b.first + 1),
    )
    for block in blocks[:_MOST_LABELS]:
        corners = axes.transData.transform(
            [(block.first - 0.5, block.offset), (block.last + 0.5, block.offset + block.size)]
        )
        (left, low), (right, high) = corners
        letters = int((right - left) / (6.5 * figure.dpi / 72 * 0.62))
        name = _shorten(block.label, letters)
        for text in (f"{name}\n{block.size:,}", f"{block.size:,}"):
            label = axes.text(
                (block.first + block.last) / 2,
                block.offset + block.size / 2,
                text,
                ha="center",
                va="center",
                fontsize=6.5,
                clip_on=True,
                parse_math=False,
            )
            box = label.get_window_extent(renderer)
            fits = box.x0 >= left and box.x1 <= right and box.y0 >= low and box.y1 <= high
            if name and fits and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            label.remove()


def _draw_legend(axes: "Axes", colours: dict[str, Any]) -> None:
    from matplotlib import patches

    axes.legend(
        handles=[
            patches.Patch(facecolor=colour, edgecolor=_EDGE, label=_shorten(kind, 26))
            for kind, colour in colours.items()
        ],
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
