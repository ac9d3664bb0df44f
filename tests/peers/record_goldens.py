"""Record tests/golden/sizes in PyTorch: `record_goldens.py [PART...]`, in a venv as README.md there says.

Some three minutes and 4 GB of memory for all parts: latte, latte_t2v, vae, temporal, text, pipeline, chains.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import golden_cases as cases
import numpy as np
import torch
from golden_cases import compact, normal, prompt, weights
from torch import Tensor, nn
from torch_latte import Latte

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = GOLDEN / "sizes"
PIPELINE = GOLDEN / "t2v" / "pipeline"

Numbers = dict[str, Any]


def filled(model: nn.Module, prefix: str = "") -> nn.Module:
    """A model with every parameter drawn from its name in a file, which may have a prefix more."""
    for name, parameter in model.named_parameters():
        stored = name if name.startswith(prefix) else prefix + name
        parameter.data = torch.from_numpy(weights(stored, tuple(parameter.shape)))
    return model.eval()


def named(prefix: str, parts: Numbers) -> Numbers:
    """Arrays with the name of their case as a prefix."""
    return {f"{prefix}/{name}": values for name, values in parts.items()}


def places(width: int, positions: np.ndarray) -> np.ndarray:
    """Sines, then cosines (Vaswani et al. 2017)."""
    angles = np.outer(positions, 10000.0 ** (-np.arange(width // 2) / (width / 2)))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def latte() -> Numbers:
    """The plain Latte of torch_latte.py, with the original's position tables."""
    found: Numbers = {}
    for name, case in cases.LATTE.items():
        model = filled(
            Latte(
                input_size=case.sample_size,
                patch_size=2,
                hidden_size=case.hidden_size,
                depth=case.depth,
                num_heads=case.num_heads,
                num_frames=case.num_frames,
                num_classes=case.num_classes,
            )
        )
        grid, half = case.sample_size // 2, case.hidden_size // 2
        rows, columns = np.divmod(np.arange(grid**2), grid)
        tokens = np.concatenate([places(half, columns), places(half, rows)], axis=1)
        model.pos_embed.data = torch.from_numpy(tokens[None]).float()
        frames = places(case.hidden_size, np.arange(case.num_frames))
        model.temp_embed.data = torch.from_numpy(frames[None]).float()
        x_t = torch.from_numpy(cases.latents(case))
        inputs = (
            torch.from_numpy(each)
            for each in (cases.timesteps(len(x_t)), cases.labels(len(x_t), case.num_classes))
        )
        found |= named(name, compact(model(x_t, *inputs).numpy()))
    return found


def latte_t2v() -> Numbers:
    """The transformer of diffusers; outputs in our layout (B, F, C, h, w)."""
    from diffusers import LatteTransformer3DModel

    found: Numbers = {}
    for name, case in cases.LATTE_T2V.items():
        model = filled(
            LatteTransformer3DModel(
                num_attention_heads=case.num_heads,
                attention_head_dim=case.head_dim,
                in_channels=4,
                out_channels=8,
                num_layers=case.num_layers,
                cross_attention_dim=case.num_heads * case.head_dim,
                attention_bias=True,
                sample_size=case.sample_size,
                patch_size=2,
                num_embeds_ada_norm=1000,
                caption_channels=case.caption_channels,
                video_length=case.num_frames,
                norm_type="ada_norm_single",
                norm_elementwise_affine=False,
                norm_eps=1e-6,
                activation_fn="gelu-approximate",
            )
        )
        x_t = torch.from_numpy(cases.latents(case)).swapaxes(1, 2)
        states = torch.from_numpy(cases.text_states(case, len(x_t)))
        output = model(x_t, torch.from_numpy(cases.timesteps(len(x_t))), states).sample
        found |= named(name, compact(output.swapaxes(1, 2).numpy()))
    return found


def vae() -> Numbers:
    """A whole Stable Diffusion autoencoder of diffusers: moments as it draws from them, decoded frames."""
    from diffusers import AutoencoderKL

    model, found = filled(AutoencoderKL(**cases.SD_AUTOENCODER)), {}
    for size in cases.IMAGE_SIZES:
        frames = torch.from_numpy(normal(size, (1, 3, size, size))).clamp(-1, 1)
        drawn = model.encode(frames).latent_dist
        moments = torch.cat([drawn.mean, drawn.logvar], dim=1)
        latents = torch.from_numpy(normal(size + 1, (1, 4, size // 8, size // 8)))
        found |= named(f"encode-{size}", compact(moments.numpy()))
        found |= named(f"decode-{size}", compact(model.decode(latents).sample.numpy()))
    return found


def temporal() -> Numbers:
    """A small AutoencoderKLTemporalDecoder of diffusers, through LattePipeline's decoding of a clip."""
    from diffusers import AutoencoderKLTemporalDecoder, LattePipeline

    pipe, found = LattePipeline.__new__(LattePipeline), {}
    pipe.vae = filled(AutoencoderKLTemporalDecoder(**cases.TEMPORAL_DECODER))
    for frames in cases.CLIP_LENGTHS:
        latents = torch.from_numpy(normal(frames, (frames, 4, 6, 4)))[None].swapaxes(1, 2)
        clip = pipe.decode_latents(latents * pipe.vae.config.scaling_factor, frames)  # (1, 3, F, H, W)
        found |= named(f"decode-{frames}", compact(clip[0].swapaxes(0, 1).numpy()))
    return found


def text() -> Numbers:
    """T5 and CLIP of transformers: token ids and states, whole where the pipeline's 120 tokens cut a text."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel, T5Tokenizer

    tokenizer, found = T5Tokenizer.from_pretrained(PIPELINE / "tokenizer"), {}
    small = T5EncoderModel.from_pretrained(PIPELINE / "text_encoder", dtype=torch.float32).eval()
    wide = filled(T5EncoderModel(T5Config(**cases.T5_WIDE)))
    for tokens in cases.TEXT_LENGTHS:
        for kind, model in (("t5", small), ("t5-wide", wide)):
            ids = tokenizer(prompt(tokens), return_tensors="pt").input_ids
            assert ids.shape[1] == tokens, ids.shape
            found |= named(f"{kind}-{tokens}", compact(model(ids).last_hidden_state[0].numpy()))
        cut = tokenizer(prompt(tokens), max_length=120, truncation=True, return_tensors="pt").input_ids
        if tokens > 120:
            found |= named(f"t5-{tokens}-cut", compact(small(cut).last_hidden_state[0].numpy()))
            found |= named(f"t5-wide-{tokens}-cut", compact(wide(cut).last_hidden_state[0].numpy()))
    clip = filled(CLIPTextModel(CLIPTextConfig(**cases.CLIP_WIDE)), "text_model.")
    for name, row in cases.CLIP_IDS.items():
        found |= named(f"clip-{name}", compact(clip(torch.tensor([row])).last_hidden_state[0].numpy()))
    return found


def pipeline() -> Numbers:
    """The tiny pipeline of tests/golden/t2v through diffusers: the latents of every step, (F, C, h, w)."""
    from diffusers import LattePipeline

    pipe, found = LattePipeline.from_pretrained(PIPELINE, torch_dtype=torch.float32), {}
    pipe.set_progress_bar_config(disable=True)
    for tokens in cases.PROMPT_LENGTHS:
        steps: list[np.ndarray] = []

        def keep(pipe: Any, index: int, timestep: Any, kept: Numbers, steps: Any = steps) -> Numbers:
            steps.append(kept["latents"][0].swapaxes(0, 1).numpy().copy())
            return kept

        pipe(
            prompt(tokens),
            negative_prompt=prompt(cases.NEGATIVE_LENGTH),
            num_inference_steps=cases.PROMPT_STEPS,
            guidance_scale=cases.PROMPT_GUIDANCE,
            video_length=2,
            height=64,
            width=64,
            latents=torch.from_numpy(normal(tokens, (2, 4, 8, 8))[None]).swapaxes(1, 2),
            clean_caption=False,
            output_type="latent",
            callback_on_step_end=keep,
        )
        found |= named(f"prompt-{tokens}", {"latents": np.stack(steps)})
    return found


def chains() -> Numbers:
    """The schedulers of diffusers over a fixed model in float64: the first and last steps of whole runs.

    Latents in our layout (steps, B, F, C, h, w). For all 1,000 timesteps the schedulers' float32 tables are
    made again in float64: 1 - alpha loses four digits at the first of them.
    """
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    kinds: dict[str, Any] = {
        "ddpm": DDPMScheduler,
        "ddim": DDIMScheduler,
        "dpm++": DPMSolverMultistepScheduler,
    }
    found: Numbers = {}
    for name, options in cases.SCHEDULERS.items():
        for total in cases.CHAIN_STEPS:
            scheduler = kinds[name](**cases.CHAIN, **options)
            if total == 1000:
                widen(scheduler)
            scheduler.set_timesteps(total)
            learned = name == "ddpm"
            runs = chain(scheduler, learned=learned)
            kept = [*range(cases.CHAIN_KEPT), *range(total - cases.CHAIN_KEPT, total)]
            found |= named(f"{name}-{total}", {"latents": np.stack([runs[place] for place in kept])})
            found |= named(f"{name}-{total}", {"timesteps": scheduler.timesteps.numpy()[kept]})
    return found


def widen(scheduler: Any) -> None:
    """Replace a scheduler's float32 tables."""
    scheduler.betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, 0)


def chain(scheduler: Any, *, learned: bool) -> list[np.ndarray]:
    """A run's latents after each step."""
    x_t = torch.from_numpy(normal(0, cases.CHAIN_SHAPE)).double().swapaxes(1, 2)
    steps = []
    for index, timestep in enumerate(scheduler.timesteps):
        output = cases.chain_output(x_t.swapaxes(1, 2).numpy(), float(timestep))
        output = torch.from_numpy(output).swapaxes(1, 2)
        output = output if learned else output[:, :4]

        def drawn(*shape: Any, index: int = index, **options: Any) -> Tensor:
            return torch.from_numpy(cases.chain_noise(index)).double()

        with patch("diffusers.schedulers.scheduling_ddpm.randn_tensor", drawn):
            x_t = scheduler.step(output, timestep, x_t, return_dict=False)[0].double()
        steps.append(x_t.swapaxes(1, 2).numpy().copy())
    return steps


PARTS: dict[str, Callable[[], Numbers]] = {
    "latte": latte,
    "latte_t2v": latte_t2v,
    "vae": vae,
    "temporal": temporal,
    "text": text,
    "pipeline": pipeline,
    "chains": chains,
}


def main() -> None:
    """Record the parts that are named, or all."""
    SIZES.mkdir(exist_ok=True)
    for part in sys.argv[1:] or PARTS:
        with torch.no_grad():
            numbers = PARTS[part]()
        np.savez_compressed(SIZES / f"{part}.npz", **numbers)
        print(part, len(numbers), "arrays", (SIZES / f"{part}.npz").stat().st_size, "bytes", flush=True)


if __name__ == "__main__":
    main()
