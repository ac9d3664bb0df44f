"""Estimate the memory and arithmetic of a model from its shape."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from latte_cli.core.models.sizes import Sizes
from latte_cli.core.settings.training import TrainSettings

FLOAT32, HALF = 4, 2
# Values that a block stores per token for its backward pass: this many times hidden_size, and this many times
# heads x keys for the attention weights (Korthikanti et al. 2022, section 4, counts 17 and 2.5 with all
# operators fused; operators that each save their inputs store about twice as many).
KEPT_WIDTHS, KEPT_WEIGHTS = 34, 5
# The minimum, with everything else recomputed: the input, queries, keys and values, the attention's
# output, and the MLP's inner values.
LEAST_KEPT_WIDTHS = 9
KEPT_TEXT_WIDTHS = 12  # of these, the share of cross-attention's queries and outputs
DEVICES, ACCELERATORS = Path("/dev"), ("davinci[0-9]*", "nvidia[0-9]*")
MINDSPORE = 500_000_000  # bytes of a process that has loaded MindSpore and this program; measured


class Memory(NamedTuple):
    """Bytes of a training step, by purpose."""

    weights: int
    gradients: int
    moments: int
    ema: int
    activations: int
    previews: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return sum(self)


def training_memory(shape: Sizes, train: TrainSettings, *, workers: int = 1) -> Memory:
    """Bytes of one worker's training step, without the autoencoder and MindSpore itself.

    Weights are float32, and so are gradients, AdamW's two moments and the EMA of trained weights;
    activations, and a second copy of the weights for 16-bit types, have train.dtype. With recompute, each
    block stores only its input, and one pair of blocks at a time stores the rest. Previews use a separate
    float32 model. With shard_optimizer, moments and EMA are divided among the workers; validation and
    previews need the whole EMA.
    """
    number = FLOAT32 if train.dtype == "float32" else HALF
    trained, every = shape.trained_parameters(), shape.parameters()
    multiplied = every - shape.position_parameters()
    tokens = train.batch_size * shape.num_frames * shape.tokens
    inputs = tokens * shape.hidden_size
    inside = sum(_kept_inside(shape, keys) * tokens for keys in (shape.tokens, shape.num_frames))
    if shape.text_tokens:
        inside += tokens * (KEPT_TEXT_WIDTHS * shape.hidden_size)
        inside += tokens * KEPT_WEIGHTS * shape.num_heads * shape.text_tokens
    own = -(-trained // workers) if train.shard_optimizer else trained
    averages = trained if train.validate_every or train.preview_every else own
    pairs = shape.depth // 2
    kept = shape.depth * inputs + inside if train.recompute else pairs * inside
    return Memory(
        weights=FLOAT32 * every + (0 if number == FLOAT32 else number * multiplied),
        gradients=FLOAT32 * trained,
        moments=2 * FLOAT32 * own,
        ema=FLOAT32 * averages,
        activations=number * kept,
        previews=FLOAT32 * every if train.preview_every else 0,
    )


def checkpoint_bytes(shape: Sizes, train: TrainSettings) -> int:
    """Bytes of a training checkpoint: weights, averages and AdamW's two moments, in float32.

    For LoRA, only its parameters.
    """
    trained = shape.trained_parameters()
    return 2 * FLOAT32 * (trained + (trained if train.trains_lora else shape.parameters()))


def mindspore_memory(device: str) -> int:
    """Bytes of MindSpore itself, which only a CPU shares with its weights."""
    return MINDSPORE if on_cpu(device) else 0


def denoising_values(shape: Sizes, device: str, *, clips: int, tokens: int | None = None) -> int:
    """Bytes of the float32 values where `clips` clips are widest: in a block around its GELU.

    tokens: of a frame, where its size is not the shape's. A device other than a CPU may hold the scores of
    attention, before and after the softmax, which are wider still for large frames.
    """
    tokens = tokens or shape.tokens
    every = clips * shape.num_frames * tokens
    values = every * (2 * shape.hidden_size + 2 * shape.mlp_size)
    scores = 2 * every * shape.num_heads * max(tokens, shape.text_tokens)
    return FLOAT32 * (values if on_cpu(device) else max(values, scores))


def on_cpu(device: str) -> bool:
    """Whether `device` (cpu, ascend, gpu, auto) is a CPU: auto is where the system has no accelerator."""
    return device == "cpu" or (device == "auto" and not any(any(DEVICES.glob(name)) for name in ACCELERATORS))


def least_activations(shape: Sizes, train: TrainSettings) -> int:
    """Minimum bytes of activations for a step's backward pass, for any fusion of operators."""
    number = FLOAT32 if train.dtype == "float32" else HALF
    widths = shape.depth + LEAST_KEPT_WIDTHS if train.recompute else shape.depth * LEAST_KEPT_WIDTHS
    return number * widths * train.batch_size * shape.num_frames * shape.tokens * shape.hidden_size


def forward_flops(shape: Sizes, *, tokens: int | None = None) -> int:
    """Floating-point operations of one clip's forward pass: matrix products only, two per multiply-add.

    tokens: tokens per frame, if different from the shape's.
    """
    width, frames, tokens = shape.hidden_size, shape.num_frames, tokens or shape.tokens
    dense = 4 * width * width + 2 * width * shape.mlp_size  # per token and block
    outside = shape.patch_size**2 * (shape.in_channels + shape.out_channels) * width
    attention = width * (tokens + frames)  # per token and pair of blocks: scores, then the weighted sum
    # Per token in a spatial block with cross-attention: query, output, scores and the weighted sum.
    reading = 2 * width * width + 2 * width * shape.text_tokens if shape.text_tokens else 0
    every_token = shape.depth * dense + shape.depth // 2 * (2 * attention + reading) + outside
    text = shape.depth // 2 * 2 * width * width * shape.text_tokens  # its keys and values
    return 2 * (frames * tokens * every_token + text)


def step_flops(shape: Sizes, train: TrainSettings) -> int:
    """Operations of one worker's optimizer step: a backward pass costs two forward passes, recompute one."""
    passes = 4 if train.recompute else 3
    return passes * train.batch_size * train.accumulation * forward_flops(shape)


def processor_speed() -> float:
    """Operations a second of this processor at float32 matrix products, measured in about 50 ms.

    All cores count as free: processor time is measured, which other programs hardly change.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    matrix = np.ones((1024, 1024), np.float32)
    seconds = []
    for _ in range(4):  # the first one starts threads
        start = time.process_time()
        np.matmul(matrix, matrix)
        seconds.append(time.process_time() - start)
    return cores * 2 * 1024**3 / max(min(seconds), 1e-9)


def _kept_inside(shape: Sizes, keys: int) -> int:
    """Values that a block stores per token if each token attends to `keys` others."""
    return KEPT_WIDTHS * shape.hidden_size + KEPT_WEIGHTS * shape.num_heads * keys
