"""Our own diffusion in plain PyTorch: loss, training step and DDPM sampling as in the original."""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn


class Diffusion:
    """A linear schedule, complete or respaced to `steps` evenly spread timesteps (Ho et al. 2020)."""

    def __init__(self, steps: int | None = None):
        whole = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000, dtype=np.float64))
        places = np.arange(1000) if steps is None else np.round(np.linspace(0, 999, steps)).astype(int)
        self.timestep_map = torch.tensor(places)
        cumulative = whole[places]
        before = np.append(1.0, cumulative[:-1])
        betas = 1 - cumulative / before
        posterior = betas * (1 - before) / (1 - cumulative)
        self.tables = {
            "signal": np.sqrt(cumulative),
            "noise": np.sqrt(1 - cumulative),
            "recip": np.sqrt(1 / cumulative),
            "recipm1": np.sqrt(1 / cumulative - 1),
            "coef1": betas * np.sqrt(before) / (1 - cumulative),
            "coef2": (1 - before) * np.sqrt(1 - betas) / (1 - cumulative),
            "min_log": np.log(np.append(posterior[1], posterior[1:])),
            "max_log": np.log(betas),
        }

    def at(self, name: str, places: Tensor, like: Tensor) -> Tensor:
        """A table's values at places (B,), spread over `like` (B, ...)."""
        values = torch.from_numpy(self.tables[name])[places].float()
        return values.reshape(-1, *[1] * (like.ndim - 1)).expand(like.shape)

    def q_sample(self, x_start: Tensor, places: Tensor, eps: Tensor) -> Tensor:
        """Noise x_start."""
        return self.at("signal", places, x_start) * x_start + self.at("noise", places, x_start) * eps

    def posterior_mean(self, x_start: Tensor, x_t: Tensor, places: Tensor) -> Tensor:
        """Mean of q(x_{t-1} | x_t, x_0)."""
        return self.at("coef1", places, x_t) * x_start + self.at("coef2", places, x_t) * x_t

    def read(self, output: Tensor, x_t: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """A model's mean and log-variance of the step before x_t."""
        eps, share = output.chunk(2, dim=2)
        low, high = self.at("min_log", places, x_t), self.at("max_log", places, x_t)
        share = (share + 1) / 2
        x_start = self.at("recip", places, x_t) * x_t - self.at("recipm1", places, x_t) * eps
        return self.posterior_mean(x_start, x_t, places), share * high + (1 - share) * low

    def losses(
        self, model: Callable[..., Tensor], x_start: Tensor, places: Tensor, eps: Tensor, *labels: Tensor
    ) -> dict[str, Tensor]:
        """mse, vb and their sum, (B,) each; the bound trains only the variance (Nichol & Dhariwal 2021)."""
        x_t = self.q_sample(x_start, places, eps)
        output = model(x_t, self.timestep_map[places], *labels)
        predicted, share = output.chunk(2, dim=2)
        frozen = torch.cat([predicted.detach(), share], dim=2)
        mean, log_variance = self.read(frozen, x_t, places)
        true_mean, true_log = (
            self.posterior_mean(x_start, x_t, places),
            self.at("min_log", places, x_t),
        )
        gap = (true_mean - mean) ** 2 * torch.exp(-log_variance)
        divergence = 0.5 * (-1 + log_variance - true_log + torch.exp(true_log - log_variance) + gap)
        likelihood = level_log_likelihood(x_start, mean, 0.5 * log_variance)
        vb = torch.where(places == 0, -row_means(likelihood), row_means(divergence)) / math.log(2)
        mse = row_means((predicted - eps) ** 2)
        return {"mse": mse, "vb": vb, "loss": mse + vb}

    @torch.no_grad()
    def sample(
        self, model: Callable[..., Tensor], x_t: Tensor, noises: Iterable[Tensor], *labels: Tensor
    ) -> Tensor:
        """Ho et al. 2020, algorithm 2: from noise to latents."""
        for place, noise in zip(reversed(range(len(self.timestep_map))), noises, strict=True):
            places = torch.full((len(x_t),), place)
            output = model(x_t, self.timestep_map[places], *labels)
            mean, log_variance = self.read(output, x_t, places)
            x_t = mean + (place > 0) * torch.exp(0.5 * log_variance) * noise
        return x_t


def row_means(values: Tensor) -> Tensor:
    """Means over all axes but the first."""
    return values.flatten(1).mean(1)


def level_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-probability of the one of 256 levels that contains x (Ho et al. 2020, eq. 13)."""
    centred, inverse = x - mean, torch.exp(-log_scale)
    upper, lower = normal_cdf(inverse * (centred + 1 / 255)), normal_cdf(inverse * (centred - 1 / 255))
    inner = torch.where(x > 0.999, 1 - lower, upper - lower)
    return torch.log(torch.where(x < -0.999, upper, inner).clamp(min=1e-12))


def normal_cdf(x: Tensor) -> Tensor:
    """The original's tanh approximation."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Training:
    """The original's loop: AdamW, the gradients' norm, and an average of all weights, name by name."""

    def __init__(self, model: nn.Module, average: nn.Module, *, rate: float, decay: float):
        self.model, self.average, self.decay = model, average, decay
        self.diffusion = Diffusion()
        self.trained = [one for one in model.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0)
        average.requires_grad_(False)

    def step(self, x_start: Tensor, places: Tensor, eps: Tensor, *labels: Tensor) -> dict[str, float]:
        """Take one step; returns the mean losses and the gradients' norm."""
        losses = self.diffusion.losses(self.model, x_start, places, eps, *labels)
        losses["loss"].mean().backward()
        norm = torch.nn.utils.get_total_norm([one.grad for one in self.trained])
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            trained = dict(self.model.named_parameters())
            for name, averaged in self.average.named_parameters():
                averaged.mul_(self.decay).add_(trained[name], alpha=1 - self.decay)
        means = {name: value.mean().item() for name, value in losses.items()}
        return {**means, "grad_norm": norm.item()}
