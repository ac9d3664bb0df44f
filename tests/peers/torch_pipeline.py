"""Latte's pipeline by diffusers: `torch_pipeline.py make FOLDER`, or `sample FOLDER FILE.mp4`."""

import shutil
import sys
from pathlib import Path

PIPELINE = Path(__file__).parents[1] / "golden" / "t2v" / "pipeline"
PROMPT = "a dog"  # of the small tokenizer's words
STEPS, GUIDANCE_SCALE, FPS = 20, 7.5, 8


def make(folder: str) -> None:
    """Write a small pipeline: 8 frames of 128 px, 4 blocks over space and over time of width 128, 4 of T5."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline, LatteTransformer3DModel
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(PIPELINE / "tokenizer")
    text = T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=4,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    transformer = LatteTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=4,
        out_channels=8,
        num_layers=4,
        cross_attention_dim=128,
        attention_bias=True,
        sample_size=16,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=64,
        video_length=8,
    )
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[32, 32, 64, 64],
        layers_per_block=1,
        norm_num_groups=16,
        sample_size=128,
    )
    scheduler = DDIMScheduler.from_pretrained(PIPELINE / "scheduler")
    pipeline = LattePipeline(tokenizer, T5EncoderModel(text), vae, transformer, scheduler)
    pipeline.save_pretrained(folder, safe_serialization=True)
    shutil.rmtree(Path(folder, "tokenizer"))  # written without the sentencepiece model
    shutil.copytree(PIPELINE / "tokenizer", Path(folder, "tokenizer"))


def sample(folder: str, file: str) -> None:
    """Draw a clip and write it, as diffusers' documentation does."""
    import torch
    from diffusers import LattePipeline
    from diffusers.utils import export_to_video

    pipeline = LattePipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    clip = pipeline(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE_SCALE,
        video_length=pipeline.transformer.config.video_length,
        height=128,
        width=128,
        clean_caption=False,
        output_type="pil",
        generator=torch.Generator().manual_seed(0),
    )
    export_to_video(clip.frames[0], file, fps=FPS)


if __name__ == "__main__":
    {"make": make, "sample": sample}[sys.argv[1]](*sys.argv[2:])
