"""The curves of a run as charts: geometry for inline SVG, computed here and drawn by the template."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 480, 220  # of a chart, in units of its view box
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 24  # margins, for the numbers of the axes
MOST_POINTS = 500  # of a curve; for more, neighbours are averaged
LOG_RANGE = 20  # ratio of largest to smallest value from which an axis is logarithmic
TICKS = 5
CURVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Loss", ("loss", "mse", "validation_loss")),
    ("Learning rate", ("lr",)),
    ("Gradient norm", ("grad_norm",)),
    ("Frames per second", ("frames_per_second",)),
)
"""Charts, and the metrics in each."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A number on an axis, at position `at` of the view box."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A line of a chart: its name, the `points` of an SVG polyline, and its last value.

    A single point is there twice, and so drawn as a dot.
    """

    name: str
    points: str
    last: str

    @property
    def is_dot(self) -> bool:
        """Whether there is a single point."""
        return len(set(self.points.split())) == 1


@dataclass(frozen=True)
class Chart:
    """One chart."""

    title: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def charts(lines: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """The charts of a run's metrics over steps; metrics without values are omitted."""
    found = []
    for title, names in CURVES:
        series = {name: points for name in names if (points := _points(lines, name))}
        if series:
            found.append(_chart(title, series))
    return found


def _points(lines: Iterable[Mapping[str, Any]], name: str) -> list[Point]:
    """(step, value) of each line with a finite value of the metric."""
    points = [
        (float(line["step"]), float(line[name]))
        for line in lines
        if isinstance(line.get(name), int | float) and math.isfinite(line[name])
    ]
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return points
    buckets = [points[start : start + size] for start in range(0, len(points), size)]
    return [(bucket[-1][0], sum(value for _, value in bucket) / len(bucket)) for bucket in buckets]


def _chart(title: str, series: Mapping[str, Sequence[Point]]) -> Chart:
    every = [point for points in series.values() for point in points]
    first, last = min(step for step, _ in every), max(step for step, _ in every)
    low, high = min(value for _, value in every), max(value for _, value in every)
    logarithmic = low > 0 and high / low > LOG_RANGE
    scale = math.log10 if logarithmic else float
    bottom, top = _widened(scale(low), scale(high))
    start, end = (first, last) if last > first else (first - 1, last + 1)

    def x(step: float) -> float:
        return round(LEFT + (step - start) / (end - start) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (scale(value) - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

    values = _decades(low, high) if logarithmic else round_numbers(bottom, top)
    return Chart(
        title,
        tuple(
            Curve(
                name,
                " ".join(f"{x(step)},{y(value)}" for step, value in _line(points)),
                _number(points[-1][1]),
            )
            for name, points in series.items()
        ),
        tuple(Tick(x(step), f"{step:,.0f}") for step in round_numbers(start, end) if step == round(step)),
        tuple(Tick(y(value), _number(value)) for value in values),
    )


def _line(points: Sequence[Point]) -> Sequence[Point]:
    """The corners of a curve: a single point is there twice, since a browser draws no line of one corner."""
    return points if len(points) > 1 else [*points, *points]


def _widened(low: float, high: float) -> Point:
    """A range with margins at both ends; for a single value, a range around it."""
    room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def round_numbers(low: float, high: float) -> list[float]:
    """At most TICKS + 1 numbers in a range, spaced by 1, 2 or 5 times a power of ten."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """The powers of ten in a range; for a short one, also their multiples by 2 and 5."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(exponents) <= 4 else (1,)
    numbers = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    return [number for number in numbers if low <= number <= high]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
