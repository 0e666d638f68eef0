"""The picture of the arena: nothing lies over anything else, and the peak is named."""

import itertools
import re

import pytest
from matplotlib import text as text_lib

from converters.report import arena_map, arena_picture
from converters.tflite import reader
from converters.tflm import arena_model, target
from tests.support import tflite_cases


def graphs_of(name: str):
    if name.startswith("zoo/"):
        return reader.read_all((tflite_cases.ROOT / name / "model.tflite").read_bytes())
    return reader.read_all(tflite_cases.kept(name))


def drawing(name: str):
    graphs = graphs_of(name)
    found = arena_model.predict(graphs, target.make("cortex-m55", "cmsis_nn"))
    drawn = arena_map.build(graphs, found.scratch)
    parts = {"head": found.head_bytes, "tail": found.tail_bytes, "arena": found.bytes}
    return drawn, parts


def boxes(figure):
    """What is written in a figure, and where; ticks outside their axis are not drawn."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    result = []
    for axes in figure.axes:
        hidden = set()
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for place, tick in zip(axis.get_ticklocs(), axis.get_major_ticks(), strict=False):
                if not min(low, high) <= place <= max(low, high):
                    hidden |= {tick.label1, tick.label2}
        for label in axes.findobj(text_lib.Text):
            if label.get_text().strip() and label.get_visible() and label not in hidden:
                result.append((label.get_window_extent(renderer), label.get_text()))
    result.append((figure._suptitle.get_window_extent(renderer), figure._suptitle.get_text()))
    return result


# A head far larger than the tail, the opposite, subgraphs, and 73 operators.
@pytest.mark.parametrize("name", ["zoo/imdb", "sine", "loop", "person_detect"])
def test_no_label_lies_over_another_and_head_and_tail_are_legible(name):
    drawn, parts = drawing(name)
    figure = arena_picture.draw(drawn, f"{name}: " + "a long title " * 12, parts)
    written = boxes(figure)
    for (box, text), (other, more) in itertools.combinations(written, 2):
        assert not box.overlaps(other), (text, more)
    width, height = figure.get_size_inches() * figure.dpi
    for box, text in written:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    texts = [text for _, text in written]
    assert {f"{part} {size:,}" for part, size in parts.items()} <= set(texts)
    peak = f"peak: {drawn.in_use[drawn.peak]:,} bytes at {drawn.steps[drawn.peak].label}"
    assert texts.count(peak) == 1


def test_svg_is_the_same_each_time_and_has_its_text():
    drawn, parts = drawing("sine")
    svg = arena_picture.svg(drawn, "sine", parts)
    assert svg == arena_picture.svg(drawn, "sine", parts)
    assert svg.startswith("<svg")
    assert svg.rstrip().endswith("</svg>")
    assert re.search(r"<text[^>]*>peak: 32 bytes at 0 FULLY_CONNECTED</text>", svg)
