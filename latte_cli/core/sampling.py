"""One clip at a time, from noise to latents to frames: what `sample` and the previews of training share.

Clips are denoised alone: each depends on its own seed, bit for bit, and not on how many are made with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from latte_cli.core.diffusion.guidance import guided
from latte_cli.core.diffusion.samplers import SAMPLERS, Step
from latte_cli.core.diffusion.schedule import FloatArray, IntArray, Schedule
from latte_cli.core.draws import Stream, draw
from latte_cli.core.models.latte import Latte
from latte_cli.core.settings import SampleSettings
from latte_cli.core.waiting import Waiter

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """What makes one clip. `initial_latents`, (F, 4, h, w), take the place of the seed's first noise."""

    seed: int
    class_label: int | None = None
    initial_latents: Array | None = None


class Denoiser:
    """A Latte as a function on the host: (x_t, timesteps, condition) to its output, float32.

    It compiles at the first call, for a shape that must not change afterwards.
    """

    def __init__(self, model: Latte):
        self.shape = model.shape
        model.set_train(False)
        self._compiled = ms.jit(model.construct)
        self.waiter = Waiter()

    def __call__(self, x_t: FloatArray, timesteps: IntArray, condition: NDArray[np.int32]) -> Array:
        inputs = x_t.astype(np.float32), timesteps.astype(np.int32), condition
        return self.waiter.fetch(self._compiled(*map(Tensor, inputs)))


def denoise(denoiser: Denoiser, clip: Clip, schedule: Schedule, settings: SampleSettings) -> Iterator[Step]:
    """Yield a report a step, whose `x_t` is (1, F, 4, h, w); the last one's are the finished, scaled latents.

    The noise of step i is a function of the clip's seed and i alone.
    """
    shape = denoiser.shape
    size = (1, shape.num_frames, shape.in_channels, shape.sample_size, shape.sample_size)

    def noise(index: int) -> Array:
        return draw(clip.seed, Stream.SAMPLE, index).standard_normal(size, np.float32)

    x_t = noise(0) if clip.initial_latents is None else clip.initial_latents.reshape(size)
    null = shape.num_classes or 0
    told = np.array([null if clip.class_label is None else clip.class_label], np.int32)
    # Without classes there is nothing to be led away from: guidance would double the work and change nothing.
    scale = 1.0 if shape.num_classes is None else settings.guidance_scale
    model = guided(denoiser, told, np.full_like(told, null), scale)
    sampler = SAMPLERS[settings.sampler]
    return sampler(model, x_t, schedule, lambda index: noise(1 + index), eta=settings.eta)
