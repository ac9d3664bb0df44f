"""The measurements, each in a separate process: training, encoding and sampling as in the commands."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.bench.machine import describe, peak_bytes
from latte_cli.core.bench.rows import Row
from latte_cli.core.bench.sources import open_source
from latte_cli.core.bench.statistics import Spread
from latte_cli.core.bench.synthetic import TEXT, text_states
from latte_cli.core.data.clips.batches import ClipSource
from latte_cli.core.machine.device import use_device, use_training_device
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.models.architectures import architecture_of, build_model
from latte_cli.core.parallel.collective import join
from latte_cli.core.parallel.world import World
from latte_cli.core.sampling.calibration import full_steps_of, run_setup
from latte_cli.core.settings.schema import Settings

if TYPE_CHECKING:
    from latte_cli.core.training.captioning import CaptionSampler

Entry = dict[str, Any]
SECONDS = 30.0  # time limit of encoding and sampling, whose calls can take very long
LEAST_COUNTED = 3


def machine(settings: Settings) -> Entry:
    """See `describe`."""
    return describe(use_device(settings.device))


def train(settings: Settings, row: Row, world: World) -> Entry:
    """Measure steps of `Trainer.run` with the row's settings, in each worker."""
    device = use_training_device(settings)
    collective = join(world)
    from latte_cli.core.training.starting import make_trainer

    experiment = row.settings(settings)
    source, encode, data = open_source(experiment, cached=row.cache)
    model = _model(experiment, experiment.train.dtype)
    captions = _caption_sampler(experiment, source) if experiment.model.condition == "text" else None
    trainer = make_trainer(experiment, model, collective=collective, captions=captions)
    reports = trainer.run(source, encode)
    bench = settings.bench
    compile_seconds, spread = timed(
        lambda: next(reports), warmup=bench.warmup_steps, count=bench.steps, seconds=None
    )
    reports.close()  # type: ignore[attr-defined]
    return {
        "data": data,
        **_text(experiment),
        "compile_seconds": compile_seconds,
        "step_seconds": asdict(spread),
        "images_per_second": row.images / spread.median,
        "peak_bytes": peak_bytes(device),
    }


def encode(settings: Settings) -> Entry:
    """Measure `Vae.encode` of full chunks, as in caching."""
    device = use_device(settings.device)
    from latte_cli.core.models.vae.autoencoder import load_vae

    vae, size, number = load_vae(settings.vae), settings.data.image_size, settings.vae.batch_frames
    frames = _noise(settings, (number, 3, size, size)).clip(-1, 1)
    first, spread = timed(lambda: vae.encode(frames), warmup=1, count=settings.bench.steps, seconds=SECONDS)
    return {
        "image_size": size,
        "chunk_frames": number,
        "compile_seconds": first,
        "chunk_seconds": asdict(spread),
        "frames_per_second": number / spread.median,
        "peak_bytes": peak_bytes(device),
    }


def sample(settings: Settings, *, decodes: bool) -> Entry:
    """Measure steps of `denoise` with sample.sampler and `Vae.decode` of a clip, which make up a video."""
    device = use_device(settings.device)
    from latte_cli.core.models.vae.autoencoder import load_vae
    from latte_cli.core.sampling.denoise import Denoiser, Trajectory, class_condition
    from latte_cli.core.sampling.from_run import guidance_of, walk_of

    chosen = settings.sample
    total, walk = walk_of(settings, chosen)
    denoiser = Denoiser(_model(settings, "float32"))
    classes, text = denoiser.num_classes, settings.model.condition == "text"
    condition = class_condition(None if classes is None else 0, classes)
    if text:
        condition = (text_states(settings)[None],) * 2
    full_steps = full_steps_of(chosen, run_setup(settings, chosen), None)
    clip = Trajectory(
        denoiser=denoiser,
        walk=walk,
        evaluations=total,
        condition=condition,
        seed=chosen.seed,
        guidance_scale=guidance_of(chosen, conditional=text or classes is not None),
        guidance_every=chosen.guidance_every,
        full_steps=full_steps,
    )

    def endless() -> Iterator[Any]:
        for seed in count(chosen.seed):
            yield from replace(clip, seed=seed).denoise()

    steps, bench = endless(), settings.bench
    # Steps that differ from one another are counted over a whole clip, once each has been compiled.
    differ = full_steps is not None or (clip.guidance_scale != 1 and clip.guidance_every > 1)
    first, spread = timed(
        lambda: next(steps),
        warmup=total if differ else bench.warmup_steps,
        count=total if differ else min(bench.steps, total),
        seconds=None if differ else SECONDS,
    )
    decoding = None
    if decodes:
        vae = load_vae(settings.vae)
        latents = _noise(settings, denoiser.clip_shape)
        decoding = timed(lambda: vae.decode(latents), warmup=1, count=LEAST_COUNTED, seconds=SECONDS)[
            1
        ].median
    return {
        "sampler": chosen.sampler,
        "steps": total,
        "guidance_scale": chosen.guidance_scale,
        **({"full_steps": len(full_steps)} if full_steps else {}),
        **({"guidance_every": clip.guidance_every} if clip.guidance_every > 1 else {}),
        "frames": settings.data.num_frames,
        **_text(settings),
        "compile_seconds": first,
        "step_seconds": asdict(spread),
        "decode_seconds": decoding,
        "video_seconds": total * (spread.mean if differ else spread.median) + (decoding or 0.0),
        "peak_bytes": peak_bytes(device),
    }


def timed(
    work: Callable[[], object], *, warmup: int, count: int, seconds: float | None
) -> tuple[float, Spread]:
    """Seconds of the first call, and the spread of `count` calls after `warmup` calls (including the first).

    With `seconds`, measuring ends after this time, but not before LEAST_COUNTED calls.
    """
    first = _seconds(work)
    for _ in range(warmup - 1):
        _seconds(work)
    counted: list[float] = []
    while len(counted) < count:
        counted.append(_seconds(work))
        if seconds is not None and sum(counted) > seconds and len(counted) >= LEAST_COUNTED:
            break
    return first, Spread.of(counted)


def _model(settings: Settings, dtype: str) -> Transformer:
    """The experiment's transformer without initial weights, which do not affect the time."""
    model = build_model(settings, dtype=dtype)
    if settings.train.init_from is not None:
        architecture_of(settings).initialise(model, settings.seed)
    return model


def _caption_sampler(settings: Settings, source: ClipSource) -> "CaptionSampler":
    """Captions with synthetic states, the same for every video."""
    from latte_cli.core.training.captioning import CaptionSampler

    states, captions = text_states(settings), dict.fromkeys(source.names, ("synthetic",))
    return CaptionSampler(captions, lambda text: states, dropout=settings.model.condition_dropout)


def _text(settings: Settings) -> Entry:
    """The source of the texts, for a text-conditional model."""
    return {"text": TEXT} if settings.model.condition == "text" else {}


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _noise(settings: Settings, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(settings.seed).standard_normal(shape, np.float32)
