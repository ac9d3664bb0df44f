"""Estimate the memory of sampling from a pipeline, by stage, from its small files and headers."""

from pathlib import Path
from typing import Literal, NamedTuple

from latte_cli.core.checkpoints.autoencoder import open_autoencoder
from latte_cli.core.checkpoints.temporal_decoder import CHUNK, open_temporal_decoder
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.latte_t2v.shape import MLP_RATIO
from latte_cli.core.models.pipeline.folder import PipelineFolder
from latte_cli.core.models.text.memory import encoding_memory
from latte_cli.core.models.vae.memory import OVERHEAD, bytes_per_frame, frames_at_once, temporal_bytes

FLOAT = 4  # bytes of the arithmetic
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


class SamplingMemory(NamedTuple):
    """Bytes per stage. Texts are encoded before the transformer is loaded; the autoencoder stays loaded."""

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
        return max(self.text_encoder, denoising)


def sampling_memory(
    pipeline: PipelineFolder,
    *,
    num_frames: int,
    size: tuple[int, int],
    guided: bool,
    dtype: str = "float32",
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
    tokens = rows * num_frames * frame
    wide = tokens * shape.hidden_size * (2 + 2 * MLP_RATIO)  # the peak: before and after the GELU
    scores = 2 * tokens * shape.num_heads * max(frame, pipeline.text.max_tokens)
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
        text_encoder=encoding_memory(pipeline.text, texts),
        transformer=shape.parameters() * BYTES[dtype],
        activations=max(wide, scores) * FLOAT,
        autoencoder=weights * FLOAT,
        decoding=decoding,
    )
