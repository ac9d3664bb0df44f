"""The PyTorch peer's worker: `torch_worker.py TASK SIZE KIND`; see serving.py.

KIND is plain or sdpa, the way that attention is computed, or compiled: sdpa under torch.compile.
"""

import copy
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
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
from torch import nn
from torch_diffusion import Diffusion, Training
from torch_latte import Latte, guided
from torch_vae import Autoencoder

Function = TypeVar("Function", bound=Callable[..., Any])


def make(task: str, size: str) -> Task:
    """The work of a task at a size."""
    return {"forward": forward, "train": train, "sample": sample, "encode": encode, "decode": decode}[task](
        size
    )


def forward(size: str) -> Task:
    """One prediction, without gradients."""
    model, shape = _compiled(_latte(size).eval()), SIZES[size].clips
    x_t, timesteps = torch.from_numpy(latents(shape)), torch.full(shape[:1], 500)

    @torch.no_grad()
    def work() -> np.ndarray:
        return model(x_t, timesteps).numpy()

    return work


def train(size: str) -> Task:
    """One training step from latents in memory: draws, forward, backward, AdamW, averages."""
    model = _latte(size).train()
    average = copy.deepcopy(model)
    training = Training(_compiled(model), average, rate=1e-4, decay=0.9999)
    x_start = torch.from_numpy(latents(SIZES[size].clips))

    def work() -> None:
        training.step(x_start, torch.randint(0, 1000, (len(x_start),)), torch.randn_like(x_start))

    return work


def sample(size: str) -> Task:
    """One clip by guided DDPM from ready noise, both halves in one batch."""
    model, diffusion = _compiled(_latte(size, NUM_CLASSES).eval()), Diffusion(steps=SAMPLING_STEPS)
    shape = (2, *SIZES[size].clips[1:])
    labels = torch.tensor([0, NUM_CLASSES])

    def work() -> np.ndarray:
        noises = (torch.randn(shape) for _ in range(SAMPLING_STEPS))
        return diffusion.sample(guided(model, GUIDANCE_SCALE), torch.randn(shape), noises, labels).numpy()

    return work


def encode(_: str) -> Task:
    """Frames to moments."""
    model, frames = _filled(Autoencoder()).eval(), latents((IMAGES, 3, IMAGE_SIZE, IMAGE_SIZE))
    run = _compiled(model.encode)
    return lambda: run(torch.from_numpy(frames)).numpy()


def decode(_: str) -> Task:
    """Latents to frames."""
    model, values = _filled(Autoencoder()).eval(), latents((IMAGES, 4, LATENT_SIDE, LATENT_SIDE))
    run = _compiled(model.decode)
    return lambda: run(torch.from_numpy(values)).numpy()


def _latte(size: str, num_classes: int | None = None) -> Latte:
    sizes = SIZES[size]._asdict()
    del sizes["batch"]
    attention = "plain" if sys.argv[3] == "plain" else "sdpa"
    return _filled(Latte(**sizes, num_classes=num_classes, attention=attention))


def _compiled(function: Function) -> Function:
    """For the worker of that kind a module or function compiled for its shapes alone."""
    if sys.argv[3] != "compiled":
        return function
    if isinstance(function, nn.Module):
        function.compile(dynamic=False)  # in place, so that parameters keep their names
        return function
    return torch.compile(function, dynamic=False)


def _filled(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.data = torch.from_numpy(weights(name, tuple(parameter.shape)))
    return model


if __name__ == "__main__":
    serve(make)
