"""Record latte_cli/assets/self_test.npz in PyTorch: what `latte doctor --self-test` expects of each graph.

`PYTHONPATH=. python tests/peers/record_doctor.py`, in the venv of tests/golden/README.md. Weights and
inputs are those of latte_cli.core.doctor.self_test; everything is computed in float32.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_diffusion import Diffusion
from torch_i3d import I3D, MIXED
from torch_latte import Latte
from torch_vae import Resnet

from latte_cli.core.doctor.self_test.drawing import normal, weights

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "latte_cli" / "assets" / "self_test.npz"
DEMO = ROOT / "latte_cli" / "assets" / "demo_autoencoder"
WIDTH, SIDE, FRAMES, IMAGES, CLASSES, RANK = 144, 8, 4, 2, 3, 2
CAPTION_CHANNELS, TEXT_TOKENS, PADDING = 16, 7, 2
TIMESTEP, TRAINED_TIMESTEP, KEPT = 500, 31, 8
SCALING = 0.18215  # Rombach et al. 2022; `Vae.decode` takes scaled latents
CLIP = (FRAMES, 4, SIDE, SIDE)

Numbers = dict[str, Any]


def tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()


def filled(model: nn.Module, prefix: str = "") -> nn.Module:
    """A model with every trained parameter drawn from its name."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = tensor(weights(prefix + name, *parameter.shape))
    return model.float().eval()


def places(width: int, positions: np.ndarray) -> np.ndarray:
    """Sines, then cosines (Vaswani et al. 2017)."""
    angles = np.outer(positions, 10000.0 ** (-np.arange(width // 2) / (width / 2)))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


class Joint(Latte):
    """Latte that also takes captions, and still images after the frames of a clip."""

    def forward(self, x_t: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        if hasattr(self, "captions"):
            assert labels is not None
            # The original conditions its blocks on the text, its final layer on the timestep alone.
            plain = self.t_embedder(timesteps)
            embedded = plain + self.captions(functional.silu(labels.flatten(1)))
            last = plain.repeat_interleave(self.num_frames, 0)
            hooks = (
                self.t_embedder.register_forward_hook(lambda *_: embedded),
                self.final_layer.register_forward_pre_hook(lambda _, inputs: (inputs[0], last)),
            )
            output = super().forward(x_t, timesteps)
            for hook in hooks:
                hook.remove()
            return output
        images = x_t.shape[1] - self.num_frames
        if not images:
            return super().forward(x_t, timesteps, labels)
        clip = super().forward(x_t[:, : self.num_frames], timesteps, labels)
        tokens = self.x_embedder(x_t[:, self.num_frames :].flatten(0, 1)) + self.pos_embed
        conditioning = self.t_embedder(timesteps).repeat_interleave(images, 0)
        for space in self.blocks[::2]:
            tokens = space(tokens, conditioning)
        stills = self._unpatchify(self.final_layer(tokens, conditioning), len(x_t))
        return torch.cat([clip, stills], dim=1)


def latte(**kinds: Any) -> Joint:
    model = Joint(
        input_size=SIDE, patch_size=2, hidden_size=WIDTH, depth=2, num_heads=2, num_frames=FRAMES, **kinds
    )
    rows, columns = np.divmod(np.arange((SIDE // 2) ** 2), SIDE // 2)
    tokens = np.concatenate([places(WIDTH // 2, columns), places(WIDTH // 2, rows)], axis=1)
    model.pos_embed.data = tensor(tokens[None])
    model.temp_embed.data = tensor(places(WIDTH, np.arange(FRAMES))[None])
    return filled(model)  # type: ignore[return-value]


def latte_t2v() -> nn.Module:
    from diffusers import LatteTransformer3DModel

    return filled(
        LatteTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=WIDTH // 2,
            in_channels=4,
            out_channels=8,
            num_layers=1,
            cross_attention_dim=WIDTH,
            attention_bias=True,
            sample_size=SIDE,
            patch_size=2,
            num_embeds_ada_norm=1000,
            caption_channels=CAPTION_CHANNELS,
            video_length=FRAMES,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
            activation_fn="gelu-approximate",
        )
    )


def of_text(model: nn.Module) -> Any:
    """A text-to-video transformer as a function of (B, F, C, h, w)."""
    states = tensor(normal("text", 1, TEXT_TOKENS, CAPTION_CHANNELS))
    # diffusers adds this to the scores as it is, a row for each frame.
    bias = -10000.0 * (torch.arange(TEXT_TOKENS) >= TEXT_TOKENS - PADDING).float().repeat(FRAMES, 1)
    return lambda x_t, timesteps: model(x_t.swapaxes(1, 2), timesteps, states, bias).sample.swapaxes(1, 2)


def gradients(model: Any, parameters: dict[str, Tensor], *, images: int = 0) -> Numbers:
    """The losses of a pass, and what `graphs.described` keeps of the gradients."""
    size = (1, FRAMES + images, *CLIP[1:])
    inputs = tensor(normal("x_start", *size)), torch.tensor([TRAINED_TIMESTEP]), tensor(normal("eps", *size))
    losses = Diffusion().losses(model, *inputs)
    losses["loss"].mean().backward()
    means = [losses[name].mean().item() for name in ("loss", "mse", "vb")]
    return {
        "losses": np.array(means, np.float32),
        **described([parameters[name].grad for name in sorted(parameters)]),
    }


def described(found: Any) -> Numbers:
    arrays = [one.numpy() for one in found]
    norms = [np.linalg.norm(one) for one in arrays]
    numbers = [one.reshape(-1)[np.linspace(0, one.size - 1, KEPT).astype(int)] for one in arrays]
    greatest = [max(float(np.abs(one).max()), 1e-30) for one in arrays]
    shares = [row / most for row, most in zip(numbers, greatest, strict=True)]
    return {"norms": np.array(norms, np.float32), "numbers": np.array(shares, np.float32)}


def trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def lora() -> Numbers:
    """The gradients of factors A and B added to the attention projections."""
    model, factors = latte_t2v(), {}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and ".attn" in name:
            a = tensor(weights(f"{name}.lora_A.weight", RANK, module.in_features)).requires_grad_()
            b = tensor(weights(f"{name}.lora_B.weight", module.out_features, RANK)).requires_grad_()
            factors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
            module.register_forward_hook(lambda _, x, y, a=a, b=b: y + x[0] @ a.T @ b.T)  # alpha / rank is 1
    return gradients(of_text(model), factors)


def temporal() -> Tensor:
    spatial = filled(Resnet(32, 64, 32), "spatial.")
    time = filled(nn.Conv3d(64, 64, (3, 1, 1), padding=(1, 0, 0)), "temporal.")
    frames = spatial(tensor(normal("frames", 3, 32, 8, 8)))
    return time(frames.swapaxes(0, 1)[None])[0].swapaxes(0, 1)


def i3d() -> Tensor:
    model = I3D()
    units = {"Conv3d_1a_7x7": model.conv1a, "Conv3d_2b_1x1": model.conv2b, "Conv3d_2c_3x3": model.conv2c}
    for name, module in zip(MIXED, (*model.mixed3, *model.mixed4, *model.mixed5), strict=True):
        branches = ("b0", "b1a", "b1b", "b2a", "b2b", "b3")
        paths = (
            "0/Conv3d_0a_1x1",
            "1/Conv3d_0a_1x1",
            "1/Conv3d_0b_3x3",
            "2/Conv3d_0a_1x1",
            "2/Conv3d_0b_3x3",
        )
        for branch, path in zip(branches, (*paths, "3/Conv3d_0b_1x1"), strict=True):
            units[f"{name}/Branch_{path}"] = getattr(module, branch)
    units["Logits/Conv3d_0c_1x1"] = model.logits
    for name, unit in units.items():
        unit.conv3d.weight.data = tensor(weights(f"{name}.weight", *unit.conv3d.weight.shape))
        bias = tensor(weights(f"{name}.bias", unit.conv3d.out_channels))
        if unit.last:
            unit.conv3d.bias.data = bias
        else:
            unit.bn.bias.data, unit.bn.running_var.fill_(1 - 1e-3)
            unit.bn.bias.data = bias
    model.float().eval()
    x = tensor(normal("frames", 9, 3, 40, 40)).swapaxes(0, 1)[None]
    with torch.no_grad():
        from torch_i3d import pool

        x = pool(model.conv1a(x), [1, 3, 3], [1, 2, 2])
        x = pool(model.conv2c(model.conv2b(x)), [1, 3, 3], [1, 2, 2])
        x = model.mixed4(pool(model.mixed3(x), [3, 3, 3], [2, 2, 2]))
        x = model.mixed5(pool(x, [2, 2, 2], [2, 2, 2])).mean((3, 4), keepdim=True)
        return model.logits(functional.avg_pool3d(x, [2, 1, 1], [1, 1, 1])).flatten(2).mean(2)[0]


def autoencoder() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(DEMO).float().eval()


def moments(frames: Tensor) -> Tensor:
    drawn = autoencoder().encode(frames).latent_dist
    return torch.cat([drawn.mean, drawn.logvar], dim=1)


def recorded() -> dict[str, Numbers]:
    """The expected results of each model, by the name of a golden."""
    x_t, step = tensor(normal("x_t", 1, *CLIP)), torch.tensor([TIMESTEP])
    plain, text_model = latte(), latte_t2v()
    joint, captioned = latte(), latte()
    captioned.captions = filled(nn.Linear(77 * 768, WIDTH), "text_embedding_projection.1.")
    scaled = tensor(normal("latents", 1, 4, 8, 8))
    two = tensor(normal("x_t", 2, *CLIP)), step.repeat(2), torch.tensor([1, CLASSES])
    with torch.no_grad():
        found: dict[str, Numbers] = {
            "latte-sample": {"out": plain(x_t, step)},
            "t2v-sample": {"out": of_text(text_model)(x_t, step)},
            "latte-classes": {"out": latte(num_classes=CLASSES)(*two)},
            "latte-captions": {"out": captioned(x_t, step, tensor(normal("text", 1, 77 * 768)))},
            "vae-encode": {"out": moments(tensor(normal("frames", 1, 3, 64, 64)).clamp(-1, 1))},
            "vae-decode": {"out": autoencoder().decode(scaled / SCALING).sample},
            "temporal-decoder": {"out": temporal()},
            "i3d": {"out": i3d()},
        }
    found["latte-train"] = gradients(plain, trained(plain))
    found["latte-joint"] = gradients(joint, trained(joint), images=IMAGES)
    found["t2v-train"] = gradients(of_text(text_model), trained(text_model))
    found["t2v-lora"] = lora()
    return found


if __name__ == "__main__":
    numbers = {
        f"{name}/{part}": np.asarray(values, np.float32)
        for name, parts in recorded().items()
        for part, values in parts.items()
    }
    np.savez_compressed(TARGET, **numbers)
    sys.stdout.write(f"{TARGET}: {TARGET.stat().st_size} bytes, {', '.join(numbers)}\n")
