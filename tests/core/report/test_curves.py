"""The geometry of charts."""

import math
import re
from itertools import pairwise

import pytest

from latte_cli.core.report.curves import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    charts,
    round_numbers,
)


def _points(chart: Chart, place: int = 0) -> list[tuple[float, float]]:
    pairs = chart.curves[place].points.split()
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in pairs)]


def test_points_match_the_ticks() -> None:
    (chart,) = charts([{"step": step, "grad_norm": float(step)} for step in (10, 20, 30)])
    assert chart.title == "Gradient norm"
    assert [tick.text for tick in chart.x_ticks] == ["10", "15", "20", "25", "30"]
    places = {tick.text: tick.at for tick in chart.y_ticks}
    points = _points(chart)
    assert [x for x, _ in points] == [LEFT, pytest.approx((LEFT + WIDTH - RIGHT) / 2), WIDTH - RIGHT]
    assert [y for _, y in points] == [places["10"], places["20"], places["30"]]
    assert all(TOP <= y <= HEIGHT - BOTTOM for _, y in points)
    assert chart.curves[0].last == "30"


def test_values_of_several_magnitudes_get_a_logarithmic_axis() -> None:
    (chart,) = charts([{"step": step, "loss": 10.0**-step} for step in range(5)])
    ys = [y for _, y in _points(chart)]
    steps = [after - before for before, after in pairwise(ys)]
    assert steps == pytest.approx([steps[0]] * 4, abs=0.11)
    assert [tick.text for tick in chart.y_ticks] == ["0.0001", "0.001", "0.01", "0.1", "1"]


def test_missing_and_infinite_values_are_left_out() -> None:
    lines = [
        {"step": 1, "loss": 1.0, "mse": math.nan, "validation_loss": None},
        {"step": 2, "loss": 2.0, "mse": 3.0, "validation_loss": 4.0},
        {"step": 3, "loss": math.inf, "mse": "text"},
    ]
    (chart,) = charts(lines)
    assert [(curve.name, len(curve.points.split())) for curve in chart.curves] == [
        ("loss", 2), ("mse", 2), ("validation_loss", 2),
    ]  # fmt: skip
    assert charts([]) == []


def test_a_constant_and_a_single_value_can_be_drawn() -> None:
    (chart,) = charts([{"step": 7, "lr": 0.0}])
    assert re.fullmatch(r"([\d.]+,[\d.]+) \1", chart.curves[0].points), "a line of no length"
    assert chart.curves[0].is_dot
    assert chart.x_ticks


def test_a_long_run_is_drawn_as_averages_of_consecutive_values() -> None:
    (chart,) = charts([{"step": step, "lr": float(step % 2)} for step in range(1, 20_001)])
    points = _points(chart)
    assert len(points) == MOST_POINTS
    assert len({y for _, y in points}) == 1  # each the mean of equally many zeros and ones
    assert points[-1][0] == WIDTH - RIGHT


@pytest.mark.parametrize(
    ("low", "high", "numbers"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (-3, 9, [0, 5]), (995, 1005, [996, 998, 1000, 1002, 1004])],
)
def test_ticks_are_round_numbers(low: float, high: float, numbers: list[float]) -> None:
    assert round_numbers(low, high) == pytest.approx(numbers)
