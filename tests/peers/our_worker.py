"""Our worker: `our_worker.py TASK SIZE`; it calls what train, cache and sample call. See serving.py."""

from itertools import count

import numpy as np
from golden_cases import weights
from serving import Task, serve
from sizes import (
    GUIDANCE_SCALE,
    IMAGE_SIZE,
    IMAGES,
    LATENT_SIDE,
    NUM_CLASSES,
    SAMPLING_STEPS,
    SIZES,
    latents,
)

from latte_cli.core.settings.schema import Settings


def make(task: str, size: str) -> Task:
    """The work of a task at a size."""
    from latte_cli.core.machine.device import use_device

    use_device("cpu")
    return {"forward": forward, "train": train, "sample": sample, "encode": encode, "decode": decode}[task](
        size
    )


def forward(size: str) -> Task:
    """One prediction, as sampling asks for it."""
    from latte_cli.core.sampling.denoise import Denoiser

    denoiser, shape = Denoiser(_latte(_settings(size))), SIZES[size].clips
    x_t, timesteps = latents(shape), np.full(shape[:1], 500, np.int32)
    model = denoiser(np.zeros(shape[:1], np.int32))
    return lambda: model(x_t, timesteps)


def train(size: str) -> Task:
    """One training step from latents in memory, as training takes it."""
    from latte_cli.core.bench.synthetic import SyntheticSource
    from latte_cli.core.training.starting import make_trainer

    settings = _settings(size)
    trainer = make_trainer(settings, _latte(settings))
    reports = trainer.run(SyntheticSource(settings, "latents"), None)
    return lambda: next(reports) and None


def sample(size: str) -> Task:
    """One guided clip by DDPM, as sampling makes it."""
    from latte_cli.core.diffusion.schedule import make_schedule
    from latte_cli.core.sampling.denoise import Denoiser, Trajectory, class_condition, sampler_walk

    settings = _settings(size, condition="class", num_classes=NUM_CLASSES)
    denoiser, seeds = Denoiser(_latte(settings)), count()
    schedule = make_schedule(settings.diffusion, str(SAMPLING_STEPS))

    def work() -> np.ndarray:
        clip = Trajectory(
            denoiser=denoiser,
            walk=sampler_walk("ddpm", schedule, eta=0.0),
            evaluations=SAMPLING_STEPS,
            condition=class_condition(0, NUM_CLASSES),
            seed=next(seeds),
            guidance_scale=GUIDANCE_SCALE,
        )
        *_, last = clip.denoise()
        return last.x_t

    return work


def encode(_: str) -> Task:
    """Frames to moments, as caching and training ask for them."""
    vae, frames = _vae(), latents((IMAGES, 3, IMAGE_SIZE, IMAGE_SIZE))
    return lambda: vae.encode(frames)


def decode(_: str) -> Task:
    """Latents to frames, as sampling asks for them."""
    vae, values = _vae(), latents((IMAGES, 4, LATENT_SIDE, LATENT_SIDE))
    scaled = values * np.float32(Settings().vae.scaling_factor)
    return lambda: vae.decode(scaled)


def _settings(size: str, **model: object) -> Settings:
    """The experiment of a size, without clipping and with very many steps."""
    one = SIZES[size]
    names = ("hidden_size", "depth", "num_heads", "patch_size")
    return Settings.model_validate(
        {
            "data": {"image_size": one.input_size * 8, "num_frames": one.num_frames, "frame_stride": 1},
            "model": {**{name: getattr(one, name) for name in names}, **model},
            "train": {
                "batch_size": one.batch,
                "dtype": "float32",
                "checkpoint_every": 10**9,
                "steps": 10**9,
                "flash_attention": False,
            },
            "sample": {"guidance_scale": GUIDANCE_SCALE},
        }
    )


def _vae():
    from latte_cli.core.checkpoints.autoencoder import AutoencoderShape
    from latte_cli.core.models.vae.autoencoder import Vae
    from latte_cli.core.models.vae.model import AutoencoderKL

    model = AutoencoderKL(AutoencoderShape((128, 256, 512, 512), layers_per_block=2))
    shapes = {one.name: one.shape for one in model.get_parameters()}
    model.load(lambda name: weights(name, shapes[name]))
    return Vae(model, Settings().vae, dtype="float32")


def _latte(settings: Settings):
    from latte_cli.core.models.architectures import build_model
    from latte_cli.core.models.weights import load_weights

    model = build_model(settings)
    values = {one.name: weights(one.name, one.shape) for one in model.get_parameters()}
    load_weights(model, values, source="the peers' weights")
    return model


if __name__ == "__main__":
    serve(make)
