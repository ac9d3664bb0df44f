"""Estimate the memory of sampling from a run, from settings and headers."""

from latte_cli.core.checkpoints.autoencoder import open_autoencoder
from latte_cli.core.models.architectures import sizes_of
from latte_cli.core.models.vae.memory import OVERHEAD, bytes_per_frame, frames_at_once
from latte_cli.core.planning.cost import FLOAT32, denoising_memory
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.units import bytes_of
from latte_cli.core.settings.schema import Settings


def add_memory(plan: Plan, settings: Settings, *, decodes: bool) -> None:
    """Add a row on the memory for denoising and decoding a clip.

    Raises LatteError if the autoencoder cannot be opened.
    """
    clips = 2 if settings.sample.guidance_scale != 1 else 1
    weights, activations = denoising_memory(sizes_of(settings), clips=clips)
    parts = {"weights": weights, "activations": activations}
    if decodes:
        found, side = open_autoencoder(settings.vae.weights), settings.data.image_size
        a_frame = bytes_per_frame("decoding", found.shape, side, side)
        frames = min(settings.data.num_frames, frames_at_once(settings.vae.chunk_frames, a_frame))
        parts["autoencoder"] = FLOAT32 * found.mapped.parameters()
        parts["decoding"] = OVERHEAD + frames * a_frame
    # The autoencoder stays loaded while the transformer denoises; the values of one are freed for the other.
    total = sum(parts.values()) - min(activations, parts.get("decoding", 0))
    named = ", ".join(f"{name} {bytes_of(size)}" for name, size in parts.items())
    plan.add("memory", f"about {bytes_of(total)} per worker, plus MindSpore itself: {named}")
