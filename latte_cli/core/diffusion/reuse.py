"""Sampling that computes the transformer's blocks in some model evaluations only, and which ones.

In an evaluation that is not full, the change that the blocks made to the tokens in the last full one is added
to the tokens instead (arXiv 2411.19108). A schedule is the ascending indices of the full evaluations of a
clip, the first among them.
"""

from bisect import insort
from collections.abc import Sequence
from itertools import count
from typing import Protocol, TypeAlias

import numpy as np

from latte_cli.core.diffusion.samplers import Model
from latte_cli.core.diffusion.schedule import FloatArray, IntArray

FullSteps: TypeAlias = tuple[int, ...]


class ReusableModel(Protocol):
    """A model of one clip, see `samplers.Model`, with two further ways to evaluate it."""

    def __call__(self, x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        """In full."""

    def keep(self, x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        """In full, keeping the change that the blocks make to the tokens for `reuse`."""

    def reuse(self, x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        """With the change that was kept last, instead of computing the blocks."""


def scheduled(model: ReusableModel, full_steps: Sequence[int] | None) -> Model:
    """The model of one clip whose evaluations are full at the indices of `full_steps`; None: everywhere."""
    if full_steps is None:
        return model
    full, evaluations = frozenset(full_steps), count()

    def evaluate(x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        return (model.keep if next(evaluations) in full else model.reuse)(x_t, timesteps)

    return evaluate


def even_schedule(evaluations: int, full: int) -> FullSteps:
    """`full` of the evaluations, evenly spaced from the first on."""
    return tuple(place * evaluations // full for place in range(full))


def minimax_schedule(errors: FloatArray, full: int) -> FullSteps:
    """The schedule of `full` evaluations whose worst stretch of reuse costs least (arXiv 2511.00090).

    errors: (E, E + 1); errors[i, j] is the error of reusing the change of evaluation i up to j, exclusive,
    alone; infinite where j - i is too long or i >= j. Of schedules with the same worst error, the one with
    the least second-worst counts, and so on. Raises ValueError when no schedule of so many avoids infinity.
    """
    # best: of the paths from 0 to an evaluation, the errors, worst first, and the evaluations before it.
    # Adding the same error to two paths leaves the order of the two as it is.
    best: dict[int, tuple[list[float], FullSteps]] = {0: ([], ())}
    for _ in range(full):
        longer: dict[int, tuple[list[float], FullSteps]] = {}
        for start, (worst, path) in best.items():
            for end in np.flatnonzero(np.isfinite(errors[start])).tolist():
                one = (_worst_first(worst, float(errors[start, end])), (*path, start))
                if end not in longer or one < longer[end]:
                    longer[end] = one
        finished = longer.pop(len(errors), None)
        best = longer
    if finished is None:
        raise ValueError(f"no schedule of {full} of {len(errors)} evaluations")
    return finished[1]


def _worst_first(errors: list[float], error: float) -> list[float]:
    """Errors, worst first, with one more."""
    result = errors.copy()
    insort(result, error, key=lambda value: -value)
    return result
