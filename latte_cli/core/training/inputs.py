"""Random inputs of a training step, drawn on the host from (seed, step, place in the global batch)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.data.clips.batches import Batch
from latte_cli.core.data.clips.encoding import draw_latents
from latte_cli.core.data.latent_cache.numpy_files import stored_noise
from latte_cli.core.diffusion.schedule import Schedule
from latte_cli.core.rng import Stream, draw
from latte_cli.core.settings.schema import ModelSettings, Settings
from latte_cli.core.training.captioning import CaptionSampler


class StepInputs(NamedTuple):
    """The arguments of a compiled step.

    x_start, eps: (B, F + I, C, h, w) float32, I still images after a clip's frames; timesteps: (B,) int32;
    columns: (B, K) float32 from `Schedule.training_columns`; condition: (B, 1 + I) int32 labels of the clip
    and its images, or (B, 1 + I, N, D) float32 text states: (77, 768) for Latte, (120, D + 1) for LatteT2V.
    """

    x_start: Array
    eps: Array
    timesteps: NDArray[np.int32]
    columns: Array
    condition: NDArray[np.int32] | Array


def draw_inputs(
    batch: Batch,
    x_start: Array,
    *,
    settings: Settings,
    schedule: Schedule,
    captions: CaptionSampler | None = None,
    timesteps: NDArray[np.int64] | None = None,
) -> StepInputs:
    """Each clip's timestep and noise, with its condition. x_start: the batch's latents, (B, F, C, h, w).

    captions: text conditions, for condition: text; timesteps: (B,), where they are not drawn.
    """
    seed = settings.seed
    if timesteps is None:
        steps = [
            at(batch, seed, Stream.TIMESTEP, place).integers(schedule.num_timesteps) for place in batch.places
        ]
        timesteps = np.array(steps)
    condition: NDArray[np.int32] | Array
    if captions is not None:
        condition = captions(batch, num_frames=settings.data.num_frames, seed=seed)
    else:
        condition = labels_or_null(batch, settings.model, seed)
    noises = [
        at(batch, seed, Stream.NOISE, place).standard_normal(x_start.shape[1:], np.float32)
        for place in batch.places
    ]
    return StepInputs(
        x_start,
        np.stack(noises),
        schedule.timestep_map[timesteps].astype(np.int32),
        schedule.training_columns(timesteps),
        condition,
    )


def labels_or_null(batch: Batch, model: ModelSettings, seed: int) -> NDArray[np.int32]:
    """The class labels (B, 1 + I) of a clip and of the I still images after it.

    Each is independently replaced by the null label with probability `condition_dropout`; without classes all
    are zero.
    """
    labels = np.hstack([batch.class_labels[:, None], batch.image_labels.reshape(len(batch.places), -1)])
    if model.num_classes is None:
        return np.zeros(labels.shape, np.int32)
    shares = [at(batch, seed, Stream.DROPOUT, place).random(labels.shape[1]) for place in batch.places]
    return np.where(np.stack(shares) < model.condition_dropout, model.num_classes, labels).astype(np.int32)


def latents_of(
    batch: Batch, encode: Callable[[Array], Array] | None, *, scaling_factor: float, seed: int, stored: bool
) -> Array:
    """The batch's scaled latents (B, F, 4, h, w), sampled from the autoencoder's moments.

    `encode` maps frames (N, 3, H, W) to moments (N, 8, h, w); needed only for batches of frames. stored:
    always use the same sample for a frame, as in a cache of samples (cache.store: sample).
    """
    if batch.content == "latents":
        return batch.values
    moments = batch.values
    if batch.content == "frames":
        assert encode is not None, "a batch of frames needs an autoencoder"
        moments = encode(moments.reshape(-1, *moments.shape[2:]))
        moments = moments.reshape(*batch.values.shape[:2], *moments.shape[1:])
    _, frames, channels, *sides = moments.shape
    shape = (channels // 2, *sides)
    if stored:
        drawn = [
            np.stack([stored_noise(seed, *frame, shape=shape) for frame in clip]) for clip in batch.drawn_from
        ]
    else:
        drawn = [
            at(batch, seed, Stream.LATENT, place).standard_normal((frames, *shape), np.float32)
            for place in batch.places
        ]
    eps = np.stack(drawn)
    return draw_latents(moments, eps, scaling_factor)


def at(batch: Batch, seed: int, stream: Stream, place: int) -> np.random.Generator:
    """The generator of a stream for the clip at `place`."""
    return draw(seed, stream, batch.step, int(place))
