"""Medians and the comparison of two benchmarks."""

from typing import Any

from latte_cli.core.bench.measuring import timed
from latte_cli.core.bench.statistics import Spread, compare, differences

ROW = {"cards": 1, "recompute": False, "sink": False, "cache": True, "batch": 1, "frames": 2}


def benchmark(**train: Any) -> dict[str, Any]:
    """A benchmark of one row."""
    return {
        "machine": {"processor": "one", "cores": 2},
        "experiment": {"model": {"depth": 2}},
        "train": [{**ROW, **train}],
    }


def measured(step: float, images: float, peak: int, first: float) -> dict[str, Any]:
    """A row's numbers."""
    return {
        "step_seconds": {"median": step},
        "images_per_second": images,
        "peak_bytes": peak,
        "compile_seconds": first,
    }


def test_a_spread_is_the_median_with_its_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 3.0, 4.0]) == Spread(median=3.0, low=2.0, high=4.0, count=5, mean=3.0)


def test_ratios_are_new_over_old_for_rows_in_both_files() -> None:
    old, new = benchmark(**measured(2.0, 10.0, 400, 8.0)), benchmark(**measured(1.0, 20.0, 300, 6.0))
    new["train"].append({**ROW, "batch": 9, **measured(1.0, 1.0, 1, 1.0)})
    (entry,) = compare(new, old)
    assert entry["ratios"] == {"step": 0.5, "imgs/s": 2.0, "memory": 0.75, "compile": 0.75}
    assert (entry["kind"], entry["batch"], entry["cache"]) == ("train", 1, True)


def test_rows_that_could_not_be_measured_are_not_compared() -> None:
    assert compare(benchmark(problem="not on this device"), benchmark(**measured(1.0, 1.0, 1, 1.0))) == []


def test_a_different_machine_or_model_is_reported() -> None:
    old, new = benchmark(), benchmark()
    new["machine"]["cores"] = 4
    new["experiment"]["model"]["depth"] = 4
    assert differences(new, old) == ["cores: 2, now 4", "the model"]


def test_warm_up_is_not_counted_and_its_first_call_is_reported_separately() -> None:
    calls: list[int] = []
    _, spread = timed(lambda: calls.append(1), warmup=3, count=4, seconds=None)
    assert (len(calls), spread.count) == (7, 4)


def test_counting_stops_after_its_time_but_not_before_three_steps() -> None:
    _, spread = timed(lambda: None, warmup=1, count=100, seconds=-1.0)
    assert spread.count == 3


def test_a_row_from_before_a_switch_existed_is_compared_with_it_off() -> None:
    old, new = benchmark(**measured(2.0, 1.0, 1, 1.0)), benchmark(shard=False, **measured(1.0, 1.0, 1, 1.0))
    (entry,) = compare(new, old)
    assert entry["ratios"]["step"] == 0.5
    assert compare(benchmark(shard=True, **measured(1.0, 1.0, 1, 1.0)), old) == []
