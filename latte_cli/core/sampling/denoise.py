"""One clip at a time, from noise to latents to frames: what `sample` and the previews of training share.

Clips are denoised alone: each depends on its own seed, bit for bit, and not on how many are made with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from latte_cli.core.diffusion.guidance import guided
from latte_cli.core.diffusion.samplers import SAMPLERS, Model, Step
from latte_cli.core.diffusion.schedule import FloatArray, IntArray, Schedule
from latte_cli.core.kernels.waiting import Compiled
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.models.positions import TIMESTEP_CHANNELS, timestep_rows
from latte_cli.core.rng import Stream, draw
from latte_cli.core.settings.schema import SampleSettings

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """What makes one clip. `initial_latents`, (F, 4, h, w), take the place of the seed's first noise."""

    seed: int
    class_label: int | None = None
    initial_latents: Array | None = None
    text: tuple[Array, Array] | None = None
    """What a model of texts is told, and what guidance leads away from: `condition_of` each."""


class Denoiser:
    """A transformer on the host: from a condition to a float32 model of (x_t, timesteps) that is told it.

    What depends on the condition alone is computed once, for however many steps. It compiles at the first
    call for each number of rows: one with guidance, another without.
    """

    def __init__(self, model: Transformer):
        self.num_classes = model.num_classes
        self.clip_shape = model.clip_shape
        model.set_train(False)

        def prepare(condition):  # type: ignore[no-untyped-def]
            prepared = model.prepare(condition)
            return prepared, prepared[-1]

        def predict(x_t, sinusoids, *prepared):  # type: ignore[no-untyped-def]
            output = model.predict(x_t, sinusoids, prepared)
            return output, output

        self._prepare, self._predict = Compiled(prepare), Compiled(predict)

    def __call__(self, condition: NDArray[Any]) -> Model:
        prepared = self._prepare(Tensor(condition[:, None]))  # that of clips, without still images after them

        def predict(x_t: FloatArray, timesteps: IntArray) -> Array:
            # A pipeline's scheduler may have timesteps that are no whole numbers.
            inputs = np.ascontiguousarray(x_t, np.float32), timestep_rows(TIMESTEP_CHANNELS, timesteps)
            return np.asarray(self._predict(*map(Tensor, inputs), *prepared).asnumpy())

        return predict


def denoise(denoiser: Denoiser, clip: Clip, schedule: Schedule, settings: SampleSettings) -> Iterator[Step]:
    """Yield a report a step, whose `x_t` is (1, F, 4, h, w); the last one's are the finished, scaled latents.

    The noise of step i is a function of the clip's seed and i alone.
    """
    size = (1, *denoiser.clip_shape)

    def noise(index: int) -> Array:
        return draw(clip.seed, Stream.SAMPLE, index).standard_normal(size, np.float32)

    x_t = noise(0) if clip.initial_latents is None else clip.initial_latents.reshape(size)
    told, untold = _conditions(clip, denoiser.num_classes)
    # Told nothing, there is nothing to be led away from: guidance would double the work and change nothing.
    is_told = denoiser.num_classes is not None or clip.text is not None
    model = guided(denoiser, told, untold, settings.guidance_scale if is_told else 1.0)
    sampler = SAMPLERS[settings.sampler or "ddpm"]
    return sampler(model, x_t, schedule, lambda index: noise(1 + index), eta=settings.eta)


def _conditions(clip: Clip, num_classes: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the model is told of one clip, and what guidance leads away from, (1, ...) each."""
    if clip.text is not None:
        told, untold = clip.text
        return told[None], untold[None]
    null = num_classes or 0
    label = null if clip.class_label is None else clip.class_label
    return np.array([label], np.int32), np.array([null], np.int32)
