"""Estimate the memory of sampling from a run, from settings and headers."""

from collections.abc import Mapping

from latte_cli.core.checkpoints.autoencoder import open_autoencoder
from latte_cli.core.errors import LatteError
from latte_cli.core.machine.memory import free_memory
from latte_cli.core.models.architectures import sizes_of
from latte_cli.core.models.vae.memory import OVERHEAD, bytes_per_frame, frames_at_once
from latte_cli.core.planning.cost import FLOAT32, denoising_values, mindspore_memory, on_cpu
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.units import bytes_of
from latte_cli.core.settings.schema import Settings

DECODING = ("autoencoder", "decoding")


def add_memory(plan: Plan, settings: Settings, *, decodes: bool) -> None:
    """Add a row on the memory for denoising and decoding a clip.

    Raises LatteError if the autoencoder cannot be opened.
    """
    shape, device = sizes_of(settings), settings.device
    clips = 2 if settings.sample.guidance_scale != 1 and shape.condition != "none" else 1
    activations = denoising_values(shape, device, clips=clips)
    parts = {
        "MindSpore": mindspore_memory(device),
        "weights": FLOAT32 * shape.parameters(),
        "activations": activations,
    }
    if decodes:
        found, side = open_autoencoder(settings.vae.weights), settings.data.image_size
        a_frame = bytes_per_frame("decoding", found.shape, side, side)
        frames = min(settings.data.num_frames, frames_at_once(settings.vae.chunk_frames, a_frame))
        parts["autoencoder"] = FLOAT32 * found.mapped.parameters()
        parts["decoding"] = OVERHEAD + frames * a_frame
    # The autoencoder stays loaded while the transformer denoises; the values of one are freed for the other.
    total = sum(parts.values()) - min(activations, parts.get("decoding", 0))
    named = ", ".join(f"{name} {bytes_of(size)}" for name, size in parts.items() if size)
    plan.add("memory", f"about {bytes_of(total)} per worker: {named}")
    plan.check(lambda: _check_free(parts, total, device))


def _check_free(parts: Mapping[str, int], total: int, device: str) -> None:
    """Raise LatteError when sampling does not fit into a CPU's free memory."""
    free = free_memory()
    if not on_cpu(device) or total <= free:
        return
    latents = sum(size for name, size in parts.items() if name not in DECODING)
    fits = f"--format latents, {bytes_of(latents)}" if latents <= free else "a smaller model"
    raise LatteError(
        f"sampling takes about {bytes_of(total)} of memory, {bytes_of(free)} are free: expected {fits}"
    )
