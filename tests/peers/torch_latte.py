"""Our own Latte in plain PyTorch with the original's parameter names, to compare with.

It does what the PyTorch original does step by step (Ma et al. 2024; Peebles & Xie 2023), its repetitions
included: each frame's, or each token's, row of conditioning goes through adaLN of its own.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

FREQUENCIES = 256  # of a timestep's sinusoid
MAX_PERIOD = 10000.0

AttentionKind = Literal["plain", "sdpa"]


class Attention(nn.Module):
    """Multi-head self-attention of (N, T, D): written out, or torch's scaled_dot_product_attention."""

    def __init__(self, width: int, num_heads: int, kind: AttentionKind):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.num_heads, self.kind = num_heads, kind

    def forward(self, x: Tensor) -> Tensor:
        """Attend among the T tokens of each row."""
        rows, tokens, width = x.shape
        heads = self.qkv(x).reshape(rows, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        if self.kind == "sdpa":
            mixed = functional.scaled_dot_product_attention(query, key, value)
        else:
            scores = (query @ key.transpose(-2, -1)) * query.shape[-1] ** -0.5
            mixed = scores.softmax(-1) @ value
        return self.proj(mixed.transpose(1, 2).reshape(rows, tokens, width))


class Mlp(nn.Module):
    """Two projections around a tanh GELU."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply them."""
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (N, T, D) times 1 + scale, plus shift, both (N, D)."""
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class Block(nn.Module):
    """A transformer block under adaLN-zero."""

    def __init__(self, width: int, num_heads: int, hidden: int, kind: AttentionKind):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attn = Attention(width, num_heads, kind)
        self.mlp = Mlp(width, hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """x (N, T, D), conditioning (N, D)."""
        parts = self.adaLN_modulation(conditioning).chunk(6, dim=1)
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = parts
        x = x + gate_attn.unsqueeze(1) * self.attn(modulate(self.norm1(x), shift_attn, scale_attn))
        return x + gate_mlp.unsqueeze(1) * self.mlp(modulate(self.norm2(x), shift_mlp, scale_mlp))


class FinalLayer(nn.Module):
    """Tokens (N, T, D) to patches."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.norm_final = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """x (N, T, D), conditioning (N, D)."""
        shift, scale = self.adaLN_modulation(conditioning).chunk(2, dim=1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class PatchEmbedder(nn.Module):
    """Latents (N, C, h, w) to tokens (N, T, D)."""

    def __init__(self, channels: int, width: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch_size, patch_size)

    def forward(self, latents: Tensor) -> Tensor:
        """Embed."""
        return self.proj(latents).flatten(2).transpose(1, 2)


class TimestepEmbedder(nn.Module):
    """Timesteps (B,) to conditioning (B, D)."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timesteps: Tensor) -> Tensor:
        """Embed."""
        half = FREQUENCIES // 2
        exponents = -torch.log(torch.tensor(MAX_PERIOD)) * torch.arange(half, dtype=torch.float32) / half
        angles = timesteps[:, None].float() * torch.exp(exponents)[None]
        return self.mlp(torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1))


class LabelEmbedder(nn.Module):
    """Labels (B,), `num_classes` meaning none, to conditioning (B, D); training drops some to none."""

    def __init__(self, num_classes: int, width: int, dropout: float):
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + 1, width)
        self.num_classes, self.dropout = num_classes, dropout

    def forward(self, labels: Tensor) -> Tensor:
        """Embed."""
        if self.training and self.dropout > 0:
            dropped = torch.rand(labels.shape[0]) < self.dropout
            labels = torch.where(dropped, self.num_classes, labels)
        return self.embedding_table(labels)


class Latte(nn.Module):
    """Predicts noise and variance of latents (B, F, C, h, w); its sizes are the keywords of config.json."""

    def __init__(
        self,
        *,
        input_size: int,
        patch_size: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
        num_frames: int,
        num_classes: int | None = None,
        in_channels: int = 4,
        attention: AttentionKind = "plain",
    ):
        super().__init__()
        self.grid, self.patch_size, self.out_channels = input_size // patch_size, patch_size, 2 * in_channels
        self.num_frames = num_frames
        self.x_embedder = PatchEmbedder(in_channels, hidden_size, patch_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        self.y_embedder = None if num_classes is None else LabelEmbedder(num_classes, hidden_size, 0.1)
        tables = {"pos_embed": self.grid**2, "temp_embed": num_frames}
        for name, places in tables.items():
            setattr(self, name, nn.Parameter(torch.zeros(1, places, hidden_size), requires_grad=False))
        blocks = (Block(hidden_size, num_heads, 4 * hidden_size, attention) for _ in range(depth))
        self.blocks = nn.ModuleList(blocks)
        self.final_layer = FinalLayer(hidden_size, patch_size**2 * self.out_channels)

    def forward(self, x_t: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict for (B, F, C, h, w) at timesteps (B,) and labels (B,): (B, F, 2C, h, w)."""
        clips, frames = x_t.shape[:2]
        tokens = self.x_embedder(x_t.flatten(0, 1)) + self.pos_embed
        conditioning = self.t_embedder(timesteps)
        if self.y_embedder is not None:
            conditioning = conditioning + self.y_embedder(labels)
        by_frame = conditioning.repeat_interleave(frames, 0)
        by_token = conditioning.repeat_interleave(tokens.shape[1], 0)
        for place, (space, time) in enumerate(zip(self.blocks[::2], self.blocks[1::2], strict=True)):
            tokens = space(tokens, by_frame)
            tokens = self._swap(tokens, clips)
            if place == 0:
                tokens = tokens + self.temp_embed
            tokens = self._swap(time(tokens, by_token), clips)
        return self._unpatchify(self.final_layer(tokens, by_frame), clips)

    @staticmethod
    def _swap(tokens: Tensor, clips: int) -> Tensor:
        """(B * M, N, D) to (B * N, M, D): from frames in rows to tokens in rows, and back."""
        apart = tokens.reshape(clips, -1, tokens.shape[1], tokens.shape[2])
        return apart.transpose(1, 2).reshape(-1, apart.shape[1], tokens.shape[2])

    def _unpatchify(self, patches: Tensor, clips: int) -> Tensor:
        grid, patch, channels = self.grid, self.patch_size, self.out_channels
        apart = patches.reshape(-1, grid, grid, patch, patch, channels)
        frames = torch.einsum("nhwpqc->nchpwq", apart).reshape(-1, channels, grid * patch, grid * patch)
        return frames.reshape(clips, -1, *frames.shape[1:])


def guided(model: Latte, guidance_scale: float):
    """The original's forward_with_cfg: the first half of the rows is conditional, the second is not."""

    def predict(x_t: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        half = x_t[: len(x_t) // 2]
        output = model(torch.cat([half, half]), timesteps, labels)
        channels = x_t.shape[2]
        eps, rest = output[:, :, :channels], output[:, :, channels:]
        conditional, unconditional = eps.chunk(2)
        led = unconditional + guidance_scale * (conditional - unconditional)
        return torch.cat([torch.cat([led, led]), rest], dim=2)

    return predict
