"""Encode frames to latents and decode latents to frames, in chunks."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.autoencoder import open_autoencoder
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import LATENT_CHANNELS, LOGVAR_RANGE, VAE_FACTOR
from latte_cli.core.models.vae.memory import Work, choose_frames, described
from latte_cli.core.settings.schema import VaeSettings

if TYPE_CHECKING:
    from latte_cli.core.kernels.waiting import Inference
    from latte_cli.core.models.vae.model import AutoencoderKL


log = logging.getLogger(__name__)


def check_vae(settings: VaeSettings) -> None:
    """Raise LatteError if vae.weights is not an autoencoder of factor 8. Reads no weights."""
    open_autoencoder(settings.weights)


def load_vae(settings: VaeSettings, *, dtype: str = "float32") -> "Vae":
    """Build the autoencoder of vae.weights on MindSpore's current device.

    dtype: type of the arithmetic, float32 or float16; on a CPU always float32, which has fast kernels.
    Raises LatteError if files are missing or damaged or have another layout or shape.
    """
    autoencoder = open_autoencoder(settings.weights)
    from latte_cli.core.models.vae.model import AutoencoderKL

    model = AutoencoderKL(autoencoder.shape)
    model.load(autoencoder.read)
    return Vae(model, settings, dtype=dtype)


class Vae:
    """An autoencoder with its weights; where it is compiled, for one size of frames at a time."""

    def __init__(self, model: "AutoencoderKL", settings: VaeSettings, *, dtype: str) -> None:
        import mindspore as ms

        from latte_cli.core.kernels.waiting import Inference

        self.scaling_factor = settings.scaling_factor
        self.shape = model.shape
        self.chunk_frames = settings.chunk_frames
        self._at_once: dict[tuple[Work, int, int], int] = {}
        self._tensor = ms.Tensor
        self._dtype = ms.float16 if dtype == "float16" and ms.get_context("device_target") != "CPU" else None
        if self._dtype is not None:
            model.cast(self._dtype)

        def encode(frames: Any) -> Any:
            moments = model.encode(frames)
            return moments, moments

        def decode(latents: Any) -> Any:
            frames = model.decode(latents)
            return frames, frames

        self._encode, self._decode = Inference(encode), Inference(decode)

    def encode(self, frames: Array) -> Array:
        """Encode frames (N, 3, H, W) in [-1, 1] to moments (N, 8, H / 8, W / 8): mean and log-variance."""
        return np.concatenate(list(self.encode_chunks(frames)))

    def decode(self, latents: Array) -> Array:
        """Decode scaled latents (N, 4, H / 8, W / 8) to frames (N, 3, H, W) in [-1, 1], not clipped."""
        return np.concatenate(list(self.decode_chunks(latents)))

    def encode_chunks(self, frames: Array) -> Iterator[Array]:
        """Like `encode`, yielding the moments of each chunk of `frames_at_once`."""
        _check(frames, channels=3, multiple=VAE_FACTOR)
        size = self.frames_at_once("encoding", *frames.shape[2:])
        for moments in self._chunks(self._encode, frames, size):
            np.clip(moments[:, LATENT_CHANNELS:], *LOGVAR_RANGE, out=moments[:, LATENT_CHANNELS:])
            yield moments

    def decode_chunks(self, latents: Array) -> Iterator[Array]:
        """Like `decode`, yielding the frames of each chunk of `frames_at_once`."""
        _check(latents, channels=LATENT_CHANNELS, multiple=1)
        size = self.frames_at_once("decoding", *(VAE_FACTOR * side for side in latents.shape[2:]))
        yield from self._chunks(self._decode, latents / np.float32(self.scaling_factor), size)

    def frames_at_once(self, work: Work, height: int, width: int) -> int:
        """Number of frames of a size computed at once; chosen on the first call.

        Raises LatteError if they do not fit into the free memory.
        """
        key = (work, height, width)
        if key not in self._at_once:
            number = choose_frames(work, self.shape, (height, width), self.chunk_frames)
            log.info(described(work, self.shape, (height, width), number))
            self._at_once[key] = number
        return self._at_once[key]

    def _chunks(self, run: "Inference", inputs: Array, most: int) -> Iterator[Array]:
        """Run chunks of the same size, so that one graph suffices; the last is padded with its last row.

        Inputs smaller than a chunk are padded to a power of two: few graphs, little waste.
        """
        size = min(most, 1 << (len(inputs) - 1).bit_length())
        for start in range(0, len(inputs), size):
            chunk = inputs[start : start + size]
            filled = np.concatenate([chunk, np.repeat(chunk[-1:], size - len(chunk), axis=0)])
            images = np.ascontiguousarray(filled, dtype=np.float32)
            result = run(images if self._dtype is None else self._tensor(images).astype(self._dtype))
            yield np.array(result, np.float32)[: len(chunk)]


def _check(inputs: Array, *, channels: int, multiple: int) -> None:
    shape = inputs.shape
    if len(shape) != 4 or not shape[0] or shape[1] != channels or shape[2] % multiple or shape[3] % multiple:
        sides = f", H and W multiples of {multiple}" if multiple > 1 else ""
        raise LatteError(
            f"autoencoder: found an input of shape {shape}, expected (N, {channels}, H, W){sides}"
        )
