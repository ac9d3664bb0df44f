"""Schedules of full evaluations, and models that follow them."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.diffusion.reuse import even_schedule, minimax_schedule, scheduled

Array = NDArray[np.float64]


class Recorder:
    """A model that records how it is evaluated."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, x_t: Array, timesteps: NDArray[np.int64]) -> Array:
        return self._note("call", x_t)

    def keep(self, x_t: Array, timesteps: NDArray[np.int64]) -> Array:
        return self._note("keep", x_t)

    def reuse(self, x_t: Array, timesteps: NDArray[np.int64]) -> Array:
        return self._note("reuse", x_t)

    def _note(self, how: str, x_t: Array) -> Array:
        self.calls.append(how)
        return x_t


def test_a_schedule_determines_which_evaluations_are_full() -> None:
    recorder = Recorder()
    model = scheduled(recorder, (0, 3))
    for _ in range(5):
        model(np.zeros(1), np.zeros(1, np.int64))
    assert recorder.calls == ["keep", "reuse", "reuse", "keep", "reuse"]


def test_without_a_schedule_the_model_is_unchanged() -> None:
    recorder = Recorder()
    assert scheduled(recorder, None) is recorder


@pytest.mark.parametrize(("evaluations", "full"), [(50, 25), (50, 50), (7, 3), (5, 1), (250, 101)])
def test_even_schedules_have_stretches_of_nearly_equal_length(evaluations: int, full: int) -> None:
    places = even_schedule(evaluations, full)
    assert (places[0], len(places)) == (0, full)
    lengths = np.diff([*places, evaluations])
    assert lengths.max() - lengths.min() <= 1
    assert lengths.sum() == evaluations


def test_even_schedules_are_rounded_down_to_whole_evaluations() -> None:
    assert even_schedule(7, 3) == (0, 2, 4)
    assert even_schedule(10, 4) == (0, 2, 5, 7)


def stretch_errors(generator: np.random.Generator, evaluations: int, longest: int, levels: int) -> Array:
    """Random errors with ties; stretches of one evaluation reuse nothing and have no error."""
    errors = np.full((evaluations, evaluations + 1), np.inf)
    for start in range(evaluations):
        for end in range(start + 1, min(start + longest, evaluations) + 1):
            errors[start, end] = generator.integers(1, levels) if end > start + 1 else 0.0
    return errors


def costs(errors: Array, path: tuple[int, ...]) -> list[float]:
    """The errors of a schedule's stretches, worst first."""
    return sorted((float(errors[a, b]) for a, b in zip(path, (*path[1:], len(errors)), strict=True)))[::-1]


@pytest.mark.parametrize("seed", range(20))
def test_the_minimax_schedule_is_the_best_of_all_subsets(seed: int) -> None:
    generator = np.random.default_rng(seed)
    evaluations, longest, levels = 10, int(generator.integers(2, 11)), int(generator.integers(3, 50))
    errors = stretch_errors(generator, evaluations, longest, levels)
    for full in range(1, evaluations + 1):
        every = [(0, *rest) for rest in combinations(range(1, evaluations), full - 1)]
        best = min(costs(errors, path) for path in every)
        if np.isinf(best[0]):
            with pytest.raises(ValueError, match=f"no schedule of {full} of 10"):
                minimax_schedule(errors, full)
            continue
        found = minimax_schedule(errors, full)
        assert (found[0], len(found)) == (0, full)
        assert costs(errors, found) == best


def test_equal_worst_stretches_are_compared_by_the_second_worst() -> None:
    errors = stretch_errors(np.random.default_rng(0), 6, 6, 2)
    errors[0, 2], errors[2, 4], errors[4, 6] = 5.0, 4.0, 5.0
    errors[0, 3], errors[3, 6], errors[0, 1], errors[1, 6] = 5.0, 5.0, 0.0, 9.0
    assert minimax_schedule(errors, 2) == min(
        ((0, place) for place in range(1, 6)), key=lambda path: (costs(errors, path), path)
    )
