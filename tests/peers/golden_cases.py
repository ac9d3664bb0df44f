"""Models of real sizes and their inputs: one definition for PyTorch and for ours.

record_goldens.py runs them in PyTorch and writes tests/golden/sizes; the tests of latte_cli run them again.
No weights are stored: each tensor is drawn by `weights`, from its own name.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
SAMPLES = 4096  # numbers kept of a large output
ENDS = (0, 999)  # of the timesteps


class LatteCase(NamedTuple):
    """A class-conditional Latte: a spatial and a temporal block."""

    hidden_size: int
    num_heads: int
    sample_size: int
    num_frames: int
    num_classes: int = 10
    depth: int = 2


LATTE = {
    "256-tokens-16-frames": LatteCase(144, 2, 32, 16),
    "1024-tokens": LatteCase(144, 2, 64, 4),
    "128-frames": LatteCase(144, 2, 8, 128),
    "xl-width": LatteCase(1152, 16, 32, 16),
}


class TextCase(NamedTuple):
    """A text-to-video transformer of diffusers: pairs of a spatial and a temporal block, and its text."""

    num_heads: int
    head_dim: int
    sample_size: int
    num_frames: int
    text_tokens: int
    caption_channels: int = 64
    num_layers: int = 1


LATTE_T2V = {
    "256-tokens-16-frames": TextCase(2, 72, 32, 16, text_tokens=17),
    "1024-tokens": TextCase(2, 72, 64, 4, text_tokens=120),
    "128-frames": TextCase(2, 72, 8, 128, text_tokens=33, num_layers=2),
    "latte-1-width": TextCase(16, 72, 32, 16, text_tokens=120, caption_channels=4096),
}

TEMPORAL_DECODER: dict[str, Any] = {
    "block_out_channels": (32, 32, 64, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 1,
}
CLIP_LENGTHS = (1, 3, 16)  # 16 frames are two chunks
SD_AUTOENCODER: dict[str, Any] = {  # stabilityai/sd-vae-ft-mse
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "act_fn": "silu",
    "sample_size": 256,
    "scaling_factor": 0.18215,
}
IMAGE_SIZES = (256, 512)

TEXT_LENGTHS = (17, 22, 33, 65, 120, 300)
T5_WIDE: dict[str, Any] = {  # a layer of google/t5-v1_1-xxl, on the vocabulary of tests/golden/t2v
    "model_type": "t5",
    "architectures": ["T5EncoderModel"],
    "vocab_size": 42,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_heads": 64,
    "num_layers": 1,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "feed_forward_proj": "gated-gelu",
    "dense_act_fn": "gelu_new",
    "is_gated_act": True,
    "is_encoder_decoder": False,
    "use_cache": False,
    "layer_norm_epsilon": 1e-6,
    "dropout_rate": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "tie_word_embeddings": False,
}
CLIP_WIDE: dict[
    str, Any
] = {  # two layers of Stable Diffusion's text encoder, on the letters of small_clip.py
    "model_type": "clip_text_model",
    "architectures": ["CLIPTextModel"],
    "vocab_size": 56,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "bos_token_id": 54,
    "eos_token_id": 55,
    "pad_token_id": 55,
}
CLIP_IDS = {  # as small_clip.py's tokenizer makes them: framed, and padded with the end
    "short": [54, 26, 53, *[55] * 74],  # "a cat"
    "full": [54, *np.random.default_rng(0).integers(0, 54, 75).tolist(), 55],
}

PROMPT_LENGTHS, NEGATIVE_LENGTH = (17, 22, 33, 65, 120), 40
PROMPT_STEPS, PROMPT_GUIDANCE = 5, 5.0

CHAIN_SHAPE = (1, 2, 4, 4, 4)  # (B, F, C, h, w) of the schedulers' runs
CHAIN_STEPS = (1000, 50)
CHAIN = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "ddpm": {"variance_type": "learned_range", "clip_sample": False},
    "ddim": {"clip_sample": False},
    "dpm++": {
        "timestep_spacing": "trailing"
    },  # with any other, a run of all 1,000 steps has a timestep twice
}
CHAIN_KEPT = 4  # steps at the beginning and the end of a run


def weights(name: str, shape: tuple[int, ...]) -> Array:
    """A tensor's values, from its name: PCG64 seeded with the name's CRC-32, standard normal in float32.

    Matrices and convolutions are divided by the root of their inputs, so that activations stay near 1; a gain
    is near 1, a bias near 0.
    """
    values = np.random.default_rng(crc32(name.encode())).standard_normal(shape, np.float32)
    if len(shape) > 1:
        return values / np.float32(np.sqrt(np.prod(shape[1:])))
    return values * np.float32(0.02) + np.float32(name.endswith("weight"))


def normal(seed: int, shape: tuple[int, ...]) -> Array:
    """Inputs: standard normal numbers in float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def latents(case: LatteCase | TextCase) -> Array:
    """Two noised clips (2, F, 4, h, w), for the first and the last timestep; one where the model is wide."""
    clips = 1 if case.sample_size == 32 and case.num_heads == 16 else 2
    return normal(1, (clips, case.num_frames, 4, case.sample_size, case.sample_size))


def timesteps(clips: int) -> NDArray[np.int64]:
    """The last timestep, then the first."""
    return np.array(ENDS[::-1][:clips], np.int64)


def labels(clips: int, num_classes: int) -> NDArray[np.int64]:
    """A class, then none."""
    return np.array([3, num_classes][:clips], np.int64)


def text_states(case: TextCase, clips: int) -> Array:
    """(B, N, D)."""
    return normal(2, (clips, case.text_tokens, case.caption_channels))


def prompt(tokens: int) -> str:
    """A text of that many tokens: words of one token each in tests/golden/t2v's vocabulary, and the end."""
    words = ["a", "th", "sun", "w", "s", "quality", "l", "t"]
    return " ".join(np.random.default_rng(tokens).choice(words, tokens - 1))


def chain_output(x_t: Array, timestep: float) -> Array:
    """Noise and variance (B, F, 2C, h, w), close to the exact noise for data of N(0, 1/4)."""
    signal = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[round(timestep)]
    x = np.asarray(x_t, np.float64)
    eps = np.sqrt(1 - signal) * x / (0.25 * signal + 1 - signal) + 0.02 * np.sin(x + timestep / 100)
    return np.concatenate([eps, np.cos(3 * x - timestep / 500)], axis=2).astype(x_t.dtype)


def chain_noise(index: int) -> Array:
    """A step's noise, in the layout of a pipeline's latents: (B, C, F, h, w)."""
    batch, frames, channels, height, width = CHAIN_SHAPE
    noise = chain_generator(index).standard_normal((batch, channels, frames, height, width))
    return noise.astype(np.float32)


def chain_generator(index: int) -> np.random.Generator:
    """A step's own random numbers."""
    return np.random.default_rng(1000 + index)


def compact(output: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """A summary of an output: evenly spaced values, the maximum, and the means by channel.

    Small outputs are kept in full. The means are over the last two axes.
    """
    flat = np.asarray(output, np.float32).reshape(-1)
    stride = max(len(flat) // SAMPLES, 1) | 1  # odd, unlike sizes, which are multiples of powers of two
    wide = np.asarray(output, np.float64)
    return {
        "samples": flat[::stride],
        "max": np.abs(wide).max(),
        "means": wide.mean(axis=(-1, -2)).astype(np.float32) if wide.ndim > 2 else wide.mean(-1),
    }


def error(output: NDArray[Any], recorded: Mapping[str, NDArray[Any]], prefix: str) -> float:
    """The maximum difference from the summary of PyTorch's output, relative to its maximum."""
    found = compact(output)
    worst = max(
        np.abs(found[part].astype(np.float64) - recorded[f"{prefix}/{part}"]).max()
        for part in ("samples", "means")
    )
    return float(worst / recorded[f"{prefix}/max"])
