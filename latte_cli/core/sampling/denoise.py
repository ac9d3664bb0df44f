"""Denoise one clip at a time; used by `latte sample` and the previews of training.

A clip depends only on its own seed, bit for bit, and not on the other clips.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.layouts.matching import TIMESTEP_CHANNELS
from latte_cli.core.diffusion.guidance import guided
from latte_cli.core.diffusion.reuse import FullSteps, ReusableModel, scheduled
from latte_cli.core.diffusion.samplers import SAMPLERS, Model, Step, walk
from latte_cli.core.diffusion.schedule import FloatArray, IntArray, Schedule
from latte_cli.core.kernels.waiting import Inference
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.models.pipeline.folder import PipelineFolder
from latte_cli.core.models.positions import timestep_rows
from latte_cli.core.rng import Stream, draw

Condition = tuple[NDArray[Any], NDArray[Any]]
"""The condition of one clip and the one that guidance steers away from, (1, ...) each."""

Walk = Callable[[Model, FloatArray, Callable[[int], np.random.Generator]], Iterator[Any]]
"""A sampler with its schedule: maps (model, x_t, random generator of a step by index) to steps."""


class Denoiser:
    """A transformer for samplers: maps a condition to a float32 model of (x_t, timesteps) on the host.

    Values that depend only on the condition are computed once for all steps. If it must be compiled, this is
    done on the first call for each number of rows (with and without guidance).
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

    def __call__(self, condition: NDArray[Any]) -> "ConditionedModel":
        # The condition is that of clips, without still images after them.
        return ConditionedModel(self, self._prepare(condition[:, None]))


class ConditionedModel:
    """A denoiser's model of one condition, see `ReusableModel`. Kept values stay on the device."""

    def __init__(self, denoiser: Denoiser, prepared: tuple[Any, ...]):
        self._denoiser, self._prepared = denoiser, prepared

    def __call__(self, x_t: FloatArray, timesteps: IntArray) -> Array:
        return np.asarray(self._denoiser.predict(*_inputs(x_t, timesteps), *self._prepared))

    def keep(self, x_t: FloatArray, timesteps: IntArray) -> Array:
        output, self._change = self._denoiser.keep(*_inputs(x_t, timesteps), *self._prepared)
        return np.asarray(output)

    def reuse(self, x_t: FloatArray, timesteps: IntArray) -> Array:
        inputs = (*_inputs(x_t, timesteps), self._change)
        return np.asarray(self._denoiser.reuse(*inputs, *self._prepared))


def _inputs(x_t: FloatArray, timesteps: IntArray) -> tuple[Array, Array]:
    """Latents, and the sinusoids of timesteps, which need not be integers: some schedulers have others."""
    return np.ascontiguousarray(x_t, np.float32), timestep_rows(TIMESTEP_CHANNELS, timesteps)


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The denoising of a clip; the noise of a step depends only on the seed and its index."""

    denoiser: Denoiser
    walk: Walk
    evaluations: int
    """Number of model evaluations of the walk."""
    condition: Condition
    seed: int
    guidance_scale: float
    guidance_every: int = 1
    """See `guided`."""
    full_steps: FullSteps | None = None
    """The model evaluations that compute the blocks, see `scheduled`; None: all."""
    initial_latents: Array | None = None
    """(F, 4, h, w) to start from, instead of noise from the seed."""

    def denoise(self) -> Iterator[Any]:
        """Yield a report per step, with `x_t` (1, F, 4, h, w); the last one has the finished clip."""
        return self.by(scheduled(self.model(), self.full_steps))

    def model(self) -> ReusableModel:
        """Return the model of the condition, with guidance."""
        return guided(self.denoiser, *self.condition, self.guidance_scale, every=self.guidance_every)

    def by(self, model: Model) -> Iterator[Any]:
        """`denoise` with another model."""
        size = (1, *self.denoiser.clip_shape)
        if self.initial_latents is None:
            x_t = self._random(-1).standard_normal(size, np.float32)
        else:
            x_t = self.initial_latents.reshape(size).astype(np.float32)
        return self.walk(model, x_t, self._random)

    def _random(self, index: int) -> np.random.Generator:
        """Random numbers of a step, or of the start, -1."""
        return draw(self.seed, Stream.SAMPLE, 1 + index)


def sampler_walk(name: str | None, schedule: Schedule, *, eta: float) -> Walk:
    """A sampler by name (default ddpm), applied to a schedule."""
    rule = SAMPLERS[name or "ddpm"]

    def steps(model: Model, x_t: FloatArray, random: Callable[[int], np.random.Generator]) -> Iterator[Step]:
        def noise(index: int) -> Array:
            return random(index).standard_normal(x_t.shape, np.float32)

        return walk(rule, model, x_t, schedule, noise, eta=eta)

    return steps


def pipeline_walk(pipeline: PipelineFolder, steps: int, *, sampler: str | None, eta: float) -> Walk:
    """A pipeline's own scheduler, or one of our samplers over the same chain.

    Raises LatteError naming its `scheduler_config.json` for a scheduler or a chain that is not known.
    """
    from latte_cli.core.models.pipeline import scheduler as schedulers

    config, source = pipeline.scheduler, str(pipeline.path / "scheduler" / "scheduler_config.json")
    if sampler is not None:
        return sampler_walk(sampler, schedulers.schedule_of_config(config, steps, source=source), eta=eta)
    known = schedulers.ddim_schedule(config, steps) if eta == 0 else None
    if known is not None:
        return sampler_walk("ddim", known, eta=eta)
    scheduler = schedulers.load_scheduler(config, source=source)

    def own(model: Model, x_t: Array, random: Callable[[int], np.random.Generator]) -> Iterator[Any]:
        return schedulers.walk(scheduler, model, x_t, steps=steps, generator=random, eta=eta)

    return own


def class_condition(label: int | None, num_classes: int | None) -> Condition:
    """The condition of a class-conditional model (label and null label) or of an unconditional one."""
    null = num_classes or 0
    return np.array([null if label is None else label], np.int32), np.array([null], np.int32)
