"""Positions and ticks of the page's pictures; the template draws them as SVG."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 32, 40
_TICKS = 5


@dataclasses.dataclass(frozen=True)
class Axis:
    """One direction of a picture.

    Attributes:
        low: Value at `start`.
        high: Value at `end`.
        start: Place of the least value in the picture.
        end: Place of the greatest.
        ticks: (place, label) of the values that are named.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: list[tuple[float, str]]

    def at(self, value: float) -> float:
        """Returns the place of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


def axis(values: Iterable[float], start: float, end: float, whole: bool = False) -> Axis:
    """Returns an axis that has room for values.

    Args:
        values: One at least, all finite.
        start: Place of the least.
        end: Place of the greatest.
        whole: Whether only whole numbers are named.
    """
    from matplotlib import ticker

    found = list(values)
    low, high = min(found), max(found)
    if low == high:
        room = abs(low) * 0.1 or 0.5
        low, high = low - room, high + room
    ticks = ticker.MaxNLocator(_TICKS, integer=whole).tick_values(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    plain = Axis(float(low), float(high), start, end, [])
    return dataclasses.replace(plain, ticks=[(plain.at(t), f"{t:g}") for t in np.round(ticks, 12)])


@dataclasses.dataclass(frozen=True)
class Chart:
    """A picture with two axes.

    Attributes:
        x: To the right.
        y: Upwards.
        lines: (name, points as SVG has them, their places) of each curve.
    """

    x: Axis
    y: Axis
    lines: list[tuple[str, str, list[tuple[float, float]]]]


def chart(series: Mapping[str, Sequence[tuple[float, float]]], whole: bool = False) -> Chart:
    """Lays curves, or clouds of points, out.

    Args:
        series: Name to points (x, y).
        whole: Whether x counts something.
    """
    points = [point for line in series.values() for point in line]
    x = axis((p[0] for p in points), _LEFT, WIDTH - _RIGHT, whole)
    y = axis((p[1] for p in points), HEIGHT - _BOTTOM, _TOP)
    places = {name: [(x.at(a), y.at(b)) for a, b in line] for name, line in series.items()}
    return Chart(
        x,
        y,
        [(name, " ".join(f"{a},{b}" for a, b in line), line) for name, line in places.items()],
    )


def learning(history: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Chart]:
    """Returns a picture of the loss and one of the validation figure, epoch by epoch.

    Args:
        history: By stage of the training, in their order: `loss` and `valid` of each epoch.
    """
    result = {}
    for key, name in (("loss", "loss"), ("valid", "validation")):
        series: dict[str, list[tuple[float, float]]] = {}
        epoch = 0
        for stage, epochs in history.items():
            points = []
            for figures in epochs:
                epoch += 1
                if isinstance(figures.get(key), int | float) and np.isfinite(figures[key]):
                    points.append((float(epoch), float(figures[key])))
            if points:
                series[stage] = points
        if series:
            result[name] = chart(series, whole=True)
    return result


def scatter(points: Sequence[tuple[float, float]]) -> Chart:
    """Returns a picture of true scores to the right and answers upwards, on the same scale."""
    both = [value for point in points for value in point]
    x, y = axis(both, _LEFT, WIDTH - _RIGHT), axis(both, HEIGHT - _BOTTOM, _TOP)
    places = [(x.at(a), y.at(b)) for a, b in points]
    return Chart(x, y, [("answers", "", places)])


def bar(parts: dict[str, int]) -> list[dict[str, Any]]:
    """Returns name, bytes, share and where it starts of each part of a bar, the largest first."""
    total = max(sum(parts.values()), 1)
    result, start = [], 0.0
    for name, size in sorted(parts.items(), key=lambda item: -item[1]):
        result.append({"name": name, "bytes": size, "share": size / total, "start": start})
        start += size / total
    return result
