"""One clip at a time, from noise to latents to frames: what `sample` and the previews of training share.

Clips are denoised alone: each depends on its own seed, bit for bit, and not on how many are made with it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.diffusion.guidance import guided
from latte_cli.core.diffusion.reuse import FullSteps, scheduled
from latte_cli.core.diffusion.samplers import SAMPLERS, Model, Step
from latte_cli.core.diffusion.schedule import FloatArray, IntArray, Schedule
from latte_cli.core.kernels.waiting import Inference
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.models.positions import TIMESTEP_CHANNELS, timestep_rows
from latte_cli.core.rng import Stream, draw

Array = NDArray[np.float32]


Condition = tuple[NDArray[Any], NDArray[Any]]
"""What the model is told of one clip, and what guidance leads away from, (1, ...) each."""

Walk = Callable[[Model, FloatArray, Callable[[int], np.random.Generator]], Iterator[Any]]
"""A sampler and its schedule: (model, x_t, random numbers of a step by its index) to a report per step."""


class Denoiser:
    """A transformer on the host: from a condition to a float32 model of (x_t, timesteps) that is told it.

    What depends on the condition alone is computed once, for however many steps. Where it has to be compiled,
    it is at the first call for each number of rows: one with guidance, another without.
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

        def keep(x_t, sinusoids, *prepared):  # type: ignore[no-untyped-def]
            modulation, tokens = model.modulation(sinusoids, prepared), model.embed(x_t)
            after = model.run_blocks(tokens, modulation, prepared)
            output = model.finish(after, modulation)
            return (output, after - tokens), output

        def reuse(x_t, sinusoids, change, *prepared):  # type: ignore[no-untyped-def]
            modulation = model.modulation(sinusoids, prepared)
            output = model.finish(model.embed(x_t) + change, modulation)
            return output, output

        self._prepare = Inference(prepare)
        self.predict, self.keep, self.reuse = map(Inference, (predict, keep, reuse))

    def __call__(self, condition: NDArray[Any]) -> "ToldModel":
        return ToldModel(self, self._prepare(Tensor(condition[:, None])))  # of clips without still images


class ToldModel:
    """A denoiser's model of one condition: see `ReusableModel`. The blocks' change stays on the device."""

    def __init__(self, denoiser: Denoiser, prepared: tuple[Tensor, ...]):
        self._denoiser, self._prepared = denoiser, prepared

    def __call__(self, x_t: FloatArray, timesteps: IntArray) -> Array:
        return _on_host(self._denoiser.predict(*_inputs(x_t, timesteps), *self._prepared))

    def keep(self, x_t: FloatArray, timesteps: IntArray) -> Array:
        output, self._change = self._denoiser.keep(*_inputs(x_t, timesteps), *self._prepared)
        return _on_host(output)

    def reuse(self, x_t: FloatArray, timesteps: IntArray) -> Array:
        return _on_host(self._denoiser.reuse(*_inputs(x_t, timesteps), self._change, *self._prepared))


def _inputs(x_t: FloatArray, timesteps: IntArray) -> tuple[Tensor, Tensor]:
    """Latents, and the sinusoids of timesteps, which a pipeline's scheduler may have between whole ones."""
    return Tensor(np.ascontiguousarray(x_t, np.float32)), Tensor(timestep_rows(TIMESTEP_CHANNELS, timesteps))


def _on_host(output: Tensor) -> Array:
    return np.asarray(output.asnumpy())


def denoise(
    denoiser: Denoiser,
    walk: Walk,
    condition: Condition,
    *,
    seed: int,
    guidance_scale: float,
    guidance_every: int = 1,
    full_steps: FullSteps | None = None,
    initial_latents: Array | None = None,
) -> Iterator[Any]:
    """Yield a report a step, whose `x_t` is (1, F, 4, h, w); the last one's are the finished, scaled latents.

    The noise of a step is a function of the seed and the step's index alone. initial_latents, (F, 4, h, w),
    take the place of the noise that the seed gives to start from. guidance_every: see `guided`. full_steps:
    the model evaluations that compute the blocks, see `scheduled`.
    """
    model = guided(denoiser, *condition, guidance_scale, every=guidance_every)
    return denoise_by(scheduled(model, full_steps), walk, denoiser.clip_shape, seed, initial_latents)


def denoise_by(
    model: Model,
    walk: Walk,
    clip_shape: tuple[int, ...],
    seed: int,
    initial_latents: Array | None = None,
) -> Iterator[Any]:
    """`denoise` by a model that is told everything already."""
    size = (1, *clip_shape)

    def random(index: int) -> np.random.Generator:
        return draw(seed, Stream.SAMPLE, 1 + index)

    if initial_latents is None:
        x_t = random(-1).standard_normal(size, np.float32)
    else:
        x_t = initial_latents.reshape(size).astype(np.float32)
    return walk(model, x_t, random)


def sampler_walk(name: str | None, schedule: Schedule, *, eta: float) -> Walk:
    """One of our samplers, ddpm where none is named, over the steps of a schedule."""
    sampler = SAMPLERS[name or "ddpm"]

    def walk(model: Model, x_t: FloatArray, random: Callable[[int], np.random.Generator]) -> Iterator[Step]:
        def noise(index: int) -> Array:
            return random(index).standard_normal(x_t.shape, np.float32)

        return sampler(model, x_t, schedule, noise, eta=eta)

    return walk


def class_condition(label: int | None, num_classes: int | None) -> Condition:
    """The condition of a model of classes, or of none: its label, and the label that means no class."""
    null = num_classes or 0
    return np.array([null if label is None else label], np.int32), np.array([null], np.int32)
