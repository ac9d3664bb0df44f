"""Our own Stable Diffusion autoencoder in plain PyTorch with diffusers' parameter names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

SD_WIDTHS = (128, 256, 512, 512)  # Rombach et al. 2022: the f8 autoencoder with a KL penalty


class Resnet(nn.Module):
    """Two normalised convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=1e-6)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs, eps=1e-6)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, H, W)."""
        y = self.conv1(functional.silu(self.norm1(x)))
        y = self.conv2(functional.silu(self.norm2(y)))
        return (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + y


class Attention(nn.Module):
    """One head over all pixels."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        projected = (one(tokens).unsqueeze(1) for one in (self.to_q, self.to_k, self.to_v))
        mixed = functional.scaled_dot_product_attention(*projected).squeeze(1)
        return self.to_out[0](mixed).transpose(1, 2).reshape(x.shape) + x


class Middle(nn.Module):
    """Resnet, attention, resnet."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.attentions = nn.ModuleList([Attention(width, groups)])
        self.resnets = nn.ModuleList([Resnet(width, width, groups) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Resampler(nn.Module):
    """Half the size, or double."""

    def __init__(self, width: int, *, up: bool):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(width, width, 3, stride=1 if up else 2, padding=1 if up else 0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W) or (N, C, H / 2, W / 2)."""
        if self.up:
            return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Stage(nn.Module):
    """Resnets of one width, then a change of size on all stages but the last."""

    def __init__(self, widths: tuple[int, int], groups: int, *, resnets: int, up: bool, last: bool):
        super().__init__()
        inputs, outputs = widths
        sizes = [inputs, *[outputs] * (resnets - 1)]
        self.resnets = nn.ModuleList([Resnet(size, outputs, groups) for size in sizes])
        if not last:
            setattr(self, "upsamplers" if up else "downsamplers", nn.ModuleList([Resampler(outputs, up=up)]))

    def forward(self, x: Tensor) -> Tensor:
        """Apply them."""
        for parts in self.children():
            for part in parts:
                x = part(x)
        return x


class Half(nn.Module):
    """The encoder, or the decoder."""

    def __init__(self, widths: Sequence[int], groups: int, *, inputs: int, outputs: int, up: bool):
        super().__init__()
        self.up = up
        stages = list(widths)[::-1] if up else list(widths)
        pairs = zip([stages[0], *stages[:-1]], stages, strict=True)
        self.conv_in = nn.Conv2d(inputs, stages[0], 3, padding=1)
        blocks = nn.ModuleList(
            [
                Stage(pair, groups, resnets=3 if up else 2, up=up, last=place == len(stages) - 1)
                for place, pair in enumerate(pairs)
            ]
        )
        setattr(self, "up_blocks" if up else "down_blocks", blocks)
        self.mid_block = Middle(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, stages[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(stages[-1], outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Frames to features, or features to frames."""
        x = self.conv_in(x)
        steps = [self.mid_block, *self.up_blocks] if self.up else [*self.down_blocks, self.mid_block]
        for step in steps:
            x = step(x)
        return self.conv_out(functional.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    """Frames (N, 3, H, W) to moments (N, 8, H / 8, W / 8), latents (N, 4, h, w) to frames."""

    def __init__(self, widths: Sequence[int] = SD_WIDTHS, groups: int = 32):
        super().__init__()
        self.encoder = Half(widths, groups, inputs=3, outputs=8, up=False)
        self.decoder = Half(widths, groups, inputs=4, outputs=3, up=True)
        self.quant_conv = nn.Conv2d(8, 8, 1)
        self.post_quant_conv = nn.Conv2d(4, 4, 1)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Moments: mean and log-variance."""
        return self.quant_conv(self.encoder(frames))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Frames of unscaled latents."""
        return self.decoder(self.post_quant_conv(latents))
