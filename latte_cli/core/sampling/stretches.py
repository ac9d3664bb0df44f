"""What each stretch of reuse costs a finished clip: the errors that `latte calibrate` chooses by."""

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
    """The full model evaluations done so far for a clip, and its errors, which are complete at the end."""

    done: int
    errors: NDArray[np.float64]


def longest_stretch(evaluations: int, fewest: int) -> int:
    """Up to how many evaluations one full evaluation is tried for, for schedules of at least `fewest`."""
    return min(evaluations, 2 * -(-evaluations // fewest) + 1)


def evaluations_of(evaluations: int, longest: int) -> int:
    """Full model evaluations that `stretch_errors` takes: of the clip itself, and after each stretch."""
    ends = [min(start + longest, evaluations) for start in range(evaluations)]
    after = sum(evaluations - stop for start, end in enumerate(ends) for stop in range(start + 2, end + 1))
    return 2 * evaluations - 1 + after


def stretch_errors(clip: "Trajectory", longest: int) -> Iterator[StretchReport]:
    """Measure every stretch of reuse of a clip, alone; yield a report after each.

    errors: (E, E + 1) as `minimax_schedule` takes them. errors[i, j] is the mean absolute difference in the
    finished latents when the evaluations between i and j reuse the change of i and all others are full; for
    j of E, up to the end. Stretches from i to j of more than `longest` are infinite.
    """
    model, total = clip.model(), clip.evaluations
    inputs: list[tuple[FloatArray, IntArray]] = []
    outputs: list[FloatArray] = []

    def recorded(x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        inputs.append((x_t, timesteps))
        outputs.append(np.asarray(model(x_t, timesteps)))
        return outputs[-1]

    whole, done = finished(clip.by(recorded)), total
    errors = np.full((total, total + 1), np.inf)
    for start in range(total):
        errors[start, start + 1] = 0.0
        if start == total - 1:
            break
        model.keep(*inputs[start])
        done += 1
        for end in range(start + 2, min(start + longest, total) + 1):
            stretched = finished(clip.by(_stretched(model, outputs, start, end)))
            errors[start, end] = np.abs(stretched - whole).mean(dtype=np.float64)
            done += total - end
            yield StretchReport(done, errors)


def _stretched(model: ReusableModel, outputs: Sequence[FloatArray], start: int, end: int) -> Model:
    """The model that reuses what it kept at `start` until `end`; up to `start` its outputs are known."""
    evaluations = count()

    def evaluate(x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        place = next(evaluations)
        if place <= start:
            return outputs[place]
        return (model.reuse if place < end else model)(x_t, timesteps)

    return evaluate


def finished(steps: Iterator[Any]) -> NDArray[np.float32]:
    """The latents that a clip's steps end with."""
    *_, last = steps
    return np.asarray(last.x_t, np.float32)
