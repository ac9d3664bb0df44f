"""The error that each stretch of reuse causes in a finished clip, for `latte calibrate`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.diffusion.reuse import ReusableModel
from latte_cli.core.diffusion.samplers import Model
from latte_cli.core.diffusion.schedule import FloatArray, IntArray

if TYPE_CHECKING:
    from latte_cli.core.sampling.denoise import Trajectory


@dataclass(frozen=True)
class StretchReport:
    """The number of full model evaluations so far, and the errors, which are complete in the last report."""

    done: int
    errors: NDArray[np.float64]


def longest_stretch(evaluations: int, fewest: int) -> int:
    """Length of the longest stretch to measure, for schedules of at least `fewest` full evaluations."""
    return min(evaluations, 2 * -(-evaluations // fewest) + 1)


def evaluations_of(evaluations: int, longest: int) -> int:
    """Number of full model evaluations of `stretch_errors`: of the clip itself, and after each stretch."""
    ends = [min(start + longest, evaluations) for start in range(evaluations)]
    after = sum(evaluations - stop for start, end in enumerate(ends) for stop in range(start + 2, end + 1))
    return 2 * evaluations - 1 + after


def stretch_errors(clip: "Trajectory", longest: int) -> Iterator[StretchReport]:
    """Measure every stretch of reuse of a clip separately; yields a report after each, and after each step
    of the clip itself.

    errors: (E, E + 1), for `minimax_schedule`. errors[i, j] is the mean absolute difference of the final
    latents if the evaluations between i and j reuse the change of i and all others are full; j = E is the
    end. Stretches longer than `longest` are infinite.
    """
    model, total = clip.model(), clip.evaluations
    inputs: list[tuple[FloatArray, IntArray]] = []
    outputs: list[FloatArray] = []

    def recorded(x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        inputs.append((x_t, timesteps))
        outputs.append(np.asarray(model(x_t, timesteps)))
        return outputs[-1]

    errors = np.full((total, total + 1), np.inf)
    for step in clip.by(recorded):
        exact = np.asarray(step.x_t, np.float32)
        yield StretchReport(len(outputs), errors)
    done = total
    for start in range(total):
        errors[start, start + 1] = 0.0
        if start == total - 1:
            break
        model.keep(*inputs[start])
        done += 1
        for end in range(start + 2, min(start + longest, total) + 1):
            stretched = finished(clip.by(_stretched(model, outputs, start, end)))
            errors[start, end] = np.abs(stretched - exact).mean(dtype=np.float64)
            done += total - end
            yield StretchReport(done, errors)


def _stretched(model: ReusableModel, outputs: Sequence[FloatArray], start: int, end: int) -> Model:
    """A model that reuses the change of `start` until `end`; its outputs up to `start` are known."""
    evaluations = count()

    def evaluate(x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        place = next(evaluations)
        if place <= start:
            return outputs[place]
        return (model.reuse if place < end else model)(x_t, timesteps)

    return evaluate


def finished(steps: Iterator[Any]) -> NDArray[np.float32]:
    """The latents of a clip's last step."""
    *_, last = steps
    return np.asarray(last.x_t, np.float32)
