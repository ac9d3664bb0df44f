"""What makes clips of specs: a run's checkpoint or a text-to-video pipeline, behind one protocol."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.sampling.spec import ClipSpec

if TYPE_CHECKING:
    from latte_cli.core.sampling.denoise import Trajectory

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class ClipStep:
    """Clip `clip`, from 0, after `step` of `steps`; `plan` has the number of steps of every clip.

    `latents` (F, 4, h, w), scaled, are those after the step, where given; the last step has them, and
    frames (F, H, W, 3) where they are decoded. Step 0 is that the clip's prompt has been encoded.
    """

    clip: int
    step: int
    steps: int
    plan: tuple[int, ...]
    latents: Array | None = None
    frames: Frames | None = None

    @property
    def is_last(self) -> bool:
        """Whether it finishes the clip."""
        return self.step == self.steps


class Generator(Protocol):
    """Makes the clips of one run of `latte sample`: of one checkpoint or pipeline, all of one size."""

    def generate(self, specs: Sequence[ClipSpec], *, decodes: bool) -> Iterator[ClipStep]:
        """The steps of the clips in order; a clip depends on its spec alone, bit for bit on a CPU.

        decodes: whether latents become frames; without it no autoencoder is loaded. Raises LatteError for
        what a user can fix, before anything slow is loaded where it can be told.
        """

    def trajectories(self, specs: Sequence[ClipSpec]) -> "list[Trajectory]":
        """The clips before their first step. Raises LatteError as `generate`."""


def clip_steps(
    steps: Iterable[Any], decode: Callable[[Array], Frames] | None, *, clip: int, plan: tuple[int, ...]
) -> Iterator[ClipStep]:
    """What `denoise` reports of one clip as `ClipStep`s; the last one's latents are decoded, if any are."""
    for step in steps:
        done, latents = step.index + 1, np.asarray(step.x_t[0], np.float32)
        frames = decode(latents) if decode and done == step.total else None
        yield ClipStep(clip, done, step.total, plan, latents, frames)
