"""The protocol of generators, which make clips from specs: of a run's checkpoint or of a pipeline."""

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
    """Clip `clip` (from 0) after `step` of `steps`; `plan` has the number of steps of every clip.

    `latents` (F, 4, h, w), scaled, may be given; the last step always has them, and frames (F, H, W, 3) if
    decoded. Step 0 means that the clip's prompt has been encoded.
    """

    clip: int
    step: int
    steps: int
    plan: tuple[int, ...]
    latents: Array | None = None
    frames: Frames | None = None

    @property
    def is_last(self) -> bool:
        """Whether this is the clip's last step."""
        return self.step == self.steps


class Generator(Protocol):
    """Generates the clips of one `latte sample`, from one checkpoint or pipeline, all of the same size."""

    def generate(self, specs: Sequence[ClipSpec], *, decodes: bool) -> Iterator[ClipStep]:
        """Yield the steps of the clips in order; a clip depends only on its spec, bit for bit on a CPU.

        decodes: whether to decode latents; otherwise no autoencoder is loaded. Raises LatteError for errors a
        user can fix, before slow loading where possible.
        """

    def trajectories(self, specs: Sequence[ClipSpec]) -> "list[Trajectory]":
        """The clips before their first step. Raises LatteError like `generate`."""


def clip_steps(
    steps: Iterable[Any], decode: Callable[[Array], Frames] | None, *, clip: int, plan: tuple[int, ...]
) -> Iterator[ClipStep]:
    """Convert the steps of `denoise` for one clip to `ClipStep`s; the last one is decoded if needed."""
    for step in steps:
        done, latents = step.index + 1, np.asarray(step.x_t[0], np.float32)
        frames = decode(latents) if decode and done == step.total else None
        yield ClipStep(clip, done, step.total, plan, latents, frames)
