"""The validation loss: the training loss of the averaged weights on clips that training never sees.

Clips, timesteps and noise are the same each time, so that differences come from the weights only. They are
drawn like those of training, with a separate seed: a clip depends on its place among the clips, not on the
workers or the batch. Timesteps are stratified: clip i of N has one from the i-th N-th of the forward process.
Nothing is mirrored, and no condition is dropped.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

import numpy as np
from mindspore import Parameter, Tensor

from latte_cli.core.arrays import Array
from latte_cli.core.data.clips.batches import Batch, ClipSource, Sharing, batches
from latte_cli.core.diffusion.gaussian import q_sample
from latte_cli.core.diffusion.losses import training_loss
from latte_cli.core.diffusion.schedule import Schedule
from latte_cli.core.kernels.waiting import Compiled
from latte_cli.core.machine.device import device_in_use, uses_flash_attention
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.models.architectures import build_model
from latte_cli.core.parallel.collective import Collective
from latte_cli.core.rng import Stream, draw
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.captioning import CaptionSampler
from latte_cli.core.training.clips import source_fingerprint
from latte_cli.core.training.inputs import StepInputs, at, draw_inputs, latents_of


class Validation:
    """The loss of a model on fixed clips of `source`, which the workers share.

    model: see `averaged_model`; captions: text conditions, for condition: text. Compiled on the first
    call.
    """

    def __init__(
        self,
        settings: Settings,
        model: Transformer,
        source: ClipSource,
        *,
        schedule: Schedule,
        collective: Collective,
        captions: CaptionSampler | None = None,
    ):
        self.settings = _without_chance(settings)
        self.stored_seed = settings.seed
        self.source, self.schedule, self.collective, self.captions = source, schedule, collective, captions
        self.number = settings.train.validate_clips
        self.fingerprint = f"{source_fingerprint(source)} {self.number}"
        self.clips: list[Batch] = []
        self._losses = _compiled_losses(model)

    def read(self, encode: Callable[[Array], Array] | None) -> Iterator[int]:
        """Read this worker's clips and keep their latents; yields how many of all clips are done.

        encode: as for `latents_of`.
        """
        settings, world = self.settings, self.collective.world
        passes = -(-self.number // (settings.train.batch_size * world.size))
        sharing = Sharing(settings.train.batch_size, passes, world.rank, world.size)
        stream = batches(self.source, data=settings.data, sharing=sharing, seed=settings.seed)
        stored = settings.cache.store == "sample"
        for batch in islice(stream, passes):
            latents = latents_of(
                batch,
                encode,
                scaling_factor=settings.vae.scaling_factor,
                seed=self.stored_seed if stored else settings.seed,
                stored=stored,
            )
            self.clips.append(replace(batch, values=latents, content="latents"))
            yield min(int(batch.places[-1]) + 1, self.number)
        stream.close()

    def __call__(self) -> float:
        """The mean loss of all clips, the same in every worker."""
        losses = np.zeros(self.number, np.float32)
        for batch in self.clips:
            inputs = self._inputs(batch)
            found = self._losses(*map(Tensor, inputs)).asnumpy()
            counted = batch.places < self.number  # the last pass may be shorter
            losses[batch.places[counted]] = found[counted]
        size = self.collective.world.size
        return float(np.mean(self.collective.mean(losses.tolist())) * size)

    def _inputs(self, batch: Batch) -> StepInputs:
        seed, steps = self.settings.seed, self.schedule.num_timesteps
        within = [at(batch, seed, Stream.TIMESTEP, place).random() for place in batch.places]
        strata = batch.places % self.number
        return draw_inputs(
            batch,
            batch.values,
            settings=self.settings,
            schedule=self.schedule,
            captions=self.captions,
            timesteps=((strata + np.array(within)) * steps / self.number).astype(np.int64),
        )


def averaged_model(settings: Settings, weights: Mapping[str, Parameter]) -> Transformer:
    """A transformer whose parameters are `weights` themselves, by name: it needs no memory and follows their
    changes."""
    model = build_model(settings, dtype=settings.train.dtype)
    names = {id(parameter): parameter.name for parameter in model.get_parameters()}
    for _, cell in model.cells_and_names():
        for attribute, parameter in list(cell.parameters_and_names(expand=False)):
            setattr(cell, attribute, weights[names[id(parameter)]])
    if uses_flash_attention(settings.train, device_in_use()):
        model.use_flash_attention()
    model.set_train(False)
    return model


def _without_chance(settings: Settings) -> Settings:
    """The settings for drawing clips, without the augmentations of training."""
    return settings.model_copy(
        update={
            "seed": int(draw(settings.seed, Stream.VALIDATION).integers(2**63)),
            "data": settings.data.model_copy(update={"random_flip": False}),
            "model": settings.model.model_copy(update={"condition_dropout": 0.0}),
        }
    )


def _compiled_losses(model: Transformer) -> Callable[..., Tensor]:
    def validation_losses(x_start, eps, timesteps, columns, condition):  # type: ignore[no-untyped-def]
        output = model(q_sample(x_start, eps, columns), timesteps, condition)
        loss, _, _ = training_loss(output, x_start, eps, columns, learn_sigma=model.learn_sigma)
        return loss, loss

    return Compiled(validation_losses)
