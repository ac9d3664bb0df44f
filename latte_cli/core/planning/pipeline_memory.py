"""How much memory sampling from a pipeline takes, stage by stage: told from its small files and headers."""

from math import prod
from pathlib import Path
from typing import NamedTuple

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.json_files import read_json
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.latte_t2v.shape import MLP_RATIO
from latte_cli.core.models.pipeline.configs import VaeConfig
from latte_cli.core.models.pipeline.folder import PipelineFolder

FLOAT = 4  # bytes of the arithmetic
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
VAE_LAYERS = (
    24  # full-size layers of a compiled Stable Diffusion decoder held at once: measured, 12.8 GB / 16 frames
)


class SamplingMemory(NamedTuple):
    """Bytes of each stage. The encoder is freed before the transformer comes, the autoencoder stands by."""

    text_encoder: int
    transformer: int
    activations: int
    """Of the largest block, estimated."""
    autoencoder: int
    decoding: int
    """Of a chunk of frames, estimated."""

    @property
    def peak(self) -> int:
        """The most that is held at once."""
        denoising = self.transformer + self.autoencoder + max(self.activations, self.decoding)
        return max(self.text_encoder, denoising)


def sampling_memory(
    pipeline: PipelineFolder,
    *,
    num_frames: int,
    size: tuple[int, int],
    guided: bool,
    dtype: str = "float32",
    chunk_frames: int = 8,
    decodes: bool = True,
) -> SamplingMemory:
    """The memory that a clip of `num_frames` frames of `size` (height, width) pixels takes.

    Without `decodes` there is no autoencoder.

    Raises LatteError when weights are missing or torn.
    """
    shape, rows = pipeline.shape, 2 if guided else 1
    patch = VAE_FACTOR * shape.patch_size
    frame = (size[0] // patch) * (size[1] // patch)
    tokens = rows * num_frames * frame
    wide = tokens * shape.hidden_size * (2 + 2 * MLP_RATIO)  # the widest moment: before and after the GELU
    scores = 2 * tokens * shape.num_heads * max(frame, pipeline.text.max_tokens)
    channels = read_json(pipeline.vae / "config.json", VaeConfig).block_out_channels[0] if decodes else 0
    pixels = min(chunk_frames, num_frames) * size[0] * size[1]
    return SamplingMemory(
        text_encoder=numbers(pipeline.text.encoder) * (4 if dtype == "bfloat16" else BYTES[dtype]),
        transformer=shape.parameters() * BYTES[dtype],
        activations=max(wide, scores) * FLOAT,
        autoencoder=numbers(pipeline.vae) * FLOAT if decodes else 0,
        decoding=pixels * channels * VAE_LAYERS * FLOAT,
    )


def numbers(folder: Path) -> int:
    """How many numbers the weights in a folder hold, by their headers."""
    weights = open_weights(folder)
    return sum(prod(weights.shape(name)) for name in weights.names)
