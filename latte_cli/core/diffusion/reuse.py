"""Sampling that computes the transformer's blocks in some model evaluations only, and which ones.

In an evaluation that is not full, the change that the blocks made to the tokens in the last full one is added
to the tokens instead (arXiv 2411.19108). A schedule lists the indices of the full evaluations of a
clip in ascending order, starting with the first.
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
        """Evaluate in full."""

    def keep(self, x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        """Evaluate in full, and keep the change that the blocks make to the tokens for `reuse`."""

    def reuse(self, x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        """Evaluate with the last kept change instead of computing the blocks."""


def scheduled(model: ReusableModel, full_steps: Sequence[int] | None) -> Model:
    """A model of one clip that evaluates in full at the indices `full_steps` only; None: always."""
    if full_steps is None:
        return model
    full, evaluations = frozenset(full_steps), count()

    def evaluate(x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        return (model.keep if next(evaluations) in full else model.reuse)(x_t, timesteps)

    return evaluate


def even_schedule(evaluations: int, full: int) -> FullSteps:
    """`full` evaluations, evenly spaced, starting with the first."""
    return tuple(place * evaluations // full for place in range(full))


def minimax_schedule(errors: FloatArray, full: int) -> FullSteps:
    """The schedule of `full` evaluations whose worst stretch of reuse has the least error (arXiv 2511.00090).

    errors: (E, E + 1); errors[i, j] is the error if only evaluations i + 1 to j - 1 reuse the change of i;
    infinite if j - i is too long or i >= j. Ties are broken by the second-worst error, and so on. Raises
    ValueError if every schedule of `full` evaluations has an infinite error.
    """
    # best: for each evaluation, the best path from 0 to it: its errors, worst first, and its evaluations.
    # Adding the same error to two paths does not change their order.
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
