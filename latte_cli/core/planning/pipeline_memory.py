"""Estimate the memory of sampling from a pipeline, by stage, from its small files and headers."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from latte_cli.core.checkpoints.autoencoder import open_autoencoder
from latte_cli.core.checkpoints.temporal_decoder import CHUNK, open_temporal_decoder
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.machine.memory import free_memory
from latte_cli.core.models.latte_t2v.sizes import TextToVideoSizes
from latte_cli.core.models.pipeline.folder import PipelineFolder
from latte_cli.core.models.text.memory import encoding_memory
from latte_cli.core.models.vae.memory import OVERHEAD, bytes_per_frame, frames_at_once, temporal_bytes
from latte_cli.core.planning.cost import FLOAT32, denoising_values, mindspore_memory, on_cpu
from latte_cli.core.planning.room import ACCELERATOR
from latte_cli.core.planning.units import bytes_of

LEAST_LATENT = 8  # pixels of a latent frame, below which no clip is worth naming
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


class SamplingMemory(NamedTuple):
    """Bytes per stage. Texts are encoded before the transformer is loaded; the autoencoder stays loaded."""

    mindspore: int
    """MindSpore itself, in a CPU's memory."""
    text_encoder: int
    """The largest matrix, since weights are read one at a time, and the values of the texts."""
    transformer: int
    activations: int
    """The values of the largest block, estimated."""
    autoencoder: int
    decoding: int
    """The values of a chunk of frames, estimated."""

    @property
    def peak(self) -> int:
        """The peak over all stages."""
        denoising = self.transformer + self.autoencoder + max(self.activations, self.decoding)
        return self.mindspore + max(self.text_encoder, denoising)


def sampling_memory(
    pipeline: PipelineFolder,
    *,
    num_frames: int,
    size: tuple[int, int],
    guided: bool,
    dtype: str = "float32",
    device: str = "cpu",
    texts: int = 2,
    chunk_frames: Literal["auto"] | int = "auto",
    decoder: Path | None = None,
) -> SamplingMemory:
    """The memory for a clip of `num_frames` frames of `size` (height, width) pixels.

    texts: number of texts to encode. decoder: folder of the autoencoder or the temporal decoder.

    Raises LatteError if weights are missing or damaged.
    """
    shape, rows = pipeline.shape, 2 if guided else 1
    patch = VAE_FACTOR * shape.patch_size
    frame = (size[0] // patch) * (size[1] // patch)
    sizes = TextToVideoSizes(replace(shape, num_frames=num_frames), 0)
    activations = denoising_values(sizes, device, clips=rows, tokens=frame)
    weights = decoding = 0
    if decoder == pipeline.vae:
        autoencoder = open_autoencoder(str(decoder))
        a_frame = bytes_per_frame("decoding", autoencoder.shape, *size)
        decoding = OVERHEAD + min(num_frames, frames_at_once(chunk_frames, a_frame)) * a_frame
        weights = autoencoder.mapped.parameters()
    elif decoder is not None:
        found, tensors = open_temporal_decoder(decoder)
        decoding = temporal_bytes(found.block_out_channels, min(num_frames, CHUNK), *size)
        weights = tensors.parameters()
    return SamplingMemory(
        mindspore=mindspore_memory(device),
        text_encoder=encoding_memory(pipeline.text, texts),
        transformer=shape.parameters() * BYTES[dtype],
        activations=activations,
        autoencoder=weights * FLOAT32,
        decoding=decoding,
    )


def check_clip_memory(
    memory_of: Callable[..., SamplingMemory], frames: int, size: tuple[int, int], device: str
) -> None:
    """Raise LatteError, with clips that fit, if this one does not: in a CPU's free memory, or an accelerator.

    memory_of: `sampling_memory` of num_frames and size.
    """
    free, there = (
        (free_memory(), "are free") if on_cpu(device) else (ACCELERATOR, "are an accelerator's most")
    )
    needed = memory_of(num_frames=frames, size=size).peak
    if needed <= free:
        return

    def fits(frames: int, size: tuple[int, int]) -> bool:
        return memory_of(num_frames=frames, size=size).peak <= free

    fewer = [number for number in _halves(frames, 1) if fits(number, size)]
    sizes = zip(*(_halves(side, VAE_FACTOR * LEAST_LATENT) for side in size), strict=False)
    smaller = [smaller for smaller in sizes if fits(frames, smaller)]
    wanted = [f"--num-frames {fewer[0]}"] if fewer else []
    wanted += [f"--height {smaller[0][0]} --width {smaller[0][1]}"] if smaller else []
    expected = f"expected {' or '.join(wanted)}" if wanted else "no clip of this pipeline fits"
    raise LatteError(
        f"a clip of {frames} frames of {size[0]} x {size[1]} pixels takes about {bytes_of(needed)} of memory,"
        f" {bytes_of(free)} {there}: {expected}"
    )


def _halves(number: int, least: int) -> Iterator[int]:
    """The number halved repeatedly, while an integer of at least `least`."""
    while number % 2 == 0 and number // 2 >= least:
        number //= 2
        yield number
