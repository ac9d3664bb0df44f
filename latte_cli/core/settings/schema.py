"""The experiment file: one YAML for all commands, typed, documented and frozen. Imports no MindSpore."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from latte_cli.core.latents import SCALING_FACTOR, VAE_FACTOR
from latte_cli.core.settings.section import Section

Switch = Literal["auto"] | bool
Dtype = Literal["float32", "float16", "bfloat16"]
BATCH_FRAMES = 8  # of a cache or a data set in memory
LARGEST_SEED = 2**63 - 1
REMOVED = {"sample.batch_size": "clips are drawn one at a time"}
"""Settings of older versions, still read, and why they have no effect."""


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class DataSettings(Section):
    """Where the clips come from and how they are cut."""

    root: Path | None = None
    """Folder of videos: folders of frames, video files, GIFs, nested as you like."""
    image_size: int = Field(256, ge=VAE_FACTOR, multiple_of=VAE_FACTOR)
    """Height and width of a frame in pixels."""
    num_frames: int = Field(16, ge=1)
    """Frames in a clip."""
    frame_stride: int = Field(3, ge=1)
    """Source frames from one frame of a clip to the next."""
    transform: Literal["crop_resize", "resize_crop"] = "crop_resize"
    """crop_resize: the largest centred square, then resized (Sky, Taichi). resize_crop: the short side
    resized, then the centre cut out (UCF101, FaceForensics)."""
    spacing: Literal["stride", "linspace"] = "stride"
    """Which frames of the cropped span make the clip: every frame_stride-th (Sky, Taichi), or num_frames
    evenly spread between its ends (UCF101, FaceForensics)."""
    random_flip: bool = False
    """Mirror a clip with probability one half."""
    use_image_num: int = Field(0, ge=0)
    """Still images, drawn from other videos, appended to each clip (image-video joint training)."""
    labels: Path | None = None
    """Class list for condition: class. A text file of `video-or-folder label` lines; null takes the folder
    names, sorted."""
    captions: Path | None = None
    """Captions for condition: text. A CSV or JSON-lines file (video, caption), or a folder of .txt files;
    null takes the .txt beside each video."""
    workers: int = Field(2, ge=1, le=256)
    """Threads that decode ahead of training."""


class VaeSettings(Section):
    """The autoencoder between pixels and latents."""

    weights: str | None = None
    """A file, a diffusers folder, or "demo": the small autoencoder in this package."""
    scaling_factor: float = Field(SCALING_FACTOR, gt=0)
    """Latents are the encoder's draw times this (Rombach et al. 2022)."""
    chunk_frames: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Frames encoded or decoded at a time, which changes no result; auto: as many as half of the free memory
    holds and gain speed."""

    @property
    def batch_frames(self) -> int:
        """Frames handed to the encoder together, which may then take them in smaller chunks."""
        return BATCH_FRAMES if self.chunk_frames == "auto" else self.chunk_frames


class TextSettings(Section):
    """The encoder that turns captions and prompts into what the transformer is told, for condition: text."""

    encoder: Path | None = None
    """Folder of an encoder with its tokenizer, or a pipeline folder that holds both: CLIP for latte, T5 for
    latte-t2v. Null takes that of train.init_from, where it is a pipeline."""
    dtype: Dtype = "float32"
    """Matrix products of the encoder on Ascend and GPU; a CPU takes float32."""
    clean_caption: bool = True
    """Whether addresses, HTML, file names and odd characters are taken out of T5's texts, as in Latte's
    pipeline."""


class ModelSettings(Section):
    """The transformer: a preset, or a size by number (numbers override the preset's)."""

    architecture: Literal["latte", "latte-t2v"] = "latte"
    """latte: Latte, told by its adaptive normalisation. latte-t2v: the transformer of Latte-1, which reads
    captions by cross-attention."""
    preset: str | None = None
    """Latte-XL/2, Latte-L/4, Latte-B/8, Latte-S/2, ...: size / patch. Latte-1 for latte-t2v."""
    hidden_size: int | None = Field(None, ge=1)
    """Width of a token."""
    depth: int | None = Field(None, ge=2)
    """Number of blocks, spatial and temporal together: even."""
    num_heads: int | None = Field(None, ge=1)
    """Attention heads; divides hidden_size."""
    patch_size: int | None = Field(None, ge=1)
    """Side of a patch in latent pixels; divides image_size / 8."""
    mlp_ratio: float = Field(4.0, gt=0)
    """Width of the MLP over hidden_size."""
    condition: Literal["none", "class", "text"] = "none"
    """What the model is told beside the timestep."""
    num_classes: int | None = Field(None, ge=1)
    """Classes for condition: class; the label num_classes means "no condition"."""
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    """How often training drops the condition, for classifier-free guidance."""
    learn_sigma: bool = True
    """Predict the variance beside the noise."""
    patch_embedder: Literal["conv", "linear"] = "conv"
    """Two ways to compute the same patch embedding from the same weights; bfloat16 needs linear."""


class DiffusionSettings(Section):
    """The forward process."""

    num_timesteps: int = Field(1000, ge=1, le=1_000_000)
    """Steps of the forward process."""
    beta_schedule: Literal["linear", "squaredcos_cap_v2"] = "linear"
    """Noise added a step; linear from 1e-4 to 0.02 (Ho et al. 2020)."""


class CacheSettings(Section):
    """Latents encoded once by `latte cache`."""

    dir: Path | None = None
    """Folder of the cache; when set, train reads it in place of the videos."""
    type: Literal["numpy", "mindrecord"] = "numpy"
    """One mappable file a video, or MindRecord shards."""
    store: Literal["moments", "sample"] = "moments"
    """Mean and log-variance, so that training draws fresh latents; or one draw."""
    dtype: Literal["float16", "float32"] = "float16"
    """How they are stored."""
    mirror: bool = False
    """Store a mirrored copy too; needed for data.random_flip."""
    in_memory: bool = False
    """Without a folder: encode every video at the start of training and keep the moments in memory. For small
    data sets."""


class TrainSettings(Section):
    """Optimisation, precision, and what is written when."""

    batch_size: int = Field(5, ge=1)
    """Clips a worker sees in one forward pass."""
    steps: int = Field(1_000_000, ge=1)
    """Optimizer steps."""
    accumulation: int = Field(1, ge=1)
    """Forward passes added up into one optimizer step."""
    learning_rate: float = Field(1e-4, gt=0)
    """AdamW's rate after warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """What the rate does between warm-up and the last step: stays, or decays to zero in a line or half a
    cosine."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the rate rises from zero."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decay, on matrices only."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest global norm of the gradients; null leaves them alone."""
    clip_start: int = Field(0, ge=0)
    """First step that is clipped."""
    ema_decay: float = Field(0.9999, ge=0, lt=1)
    """Decay of the averaged weights that sampling uses; it warms up as (1 + step) / (10 + step)."""
    dtype: Dtype = "float16"
    """Arithmetic of the blocks; what stays float32 is written in the README."""
    recompute: bool = False
    """Recompute each block's activations in the backward pass: less memory, more time."""
    flash_attention: Switch = "auto"
    """Ascend's fused attention, for float16 and bfloat16; auto: wherever it is served. Untested on Ascend."""
    sink_mode: Switch = "auto"
    """MindSpore's dataset sinking, of cached latents, on Ascend and GPU; auto: off. Untested on them."""
    log_every: int = Field(50, ge=1)
    """Steps a line of metrics.jsonl averages over."""
    checkpoint_every: int = Field(10_000, ge=1)
    """Steps from one checkpoint to the next."""
    keep: int = Field(3, ge=1)
    """Checkpoints kept, newest first."""
    preview_every: int = Field(0, ge=0)
    """Steps from one preview to the next, of up to three clips of `sample` in the run's samples/; 0 makes
    none. Drawn by the first worker from the averaged weights, for which it holds a second model in float32 (4
    bytes a parameter), and the autoencoder; for prompts, the first time, the text encoder too."""
    init_from: Path | None = None
    """Weights to start from: a checkpoint of ours, the PyTorch original's or MindONE's; for latte-t2v also a
    pipeline folder or its transformer's."""
    part: Literal["all", "temporal", "lora"] = "all"
    """What is trained of a latte-t2v: all of it, its temporal blocks, or low-rank changes of its attention
    (Hu et al. 2021) while the weights of init_from stay as they are."""
    lora_rank: int = Field(16, ge=1)
    """Rank of the changes, for part: lora."""
    lora_alpha: float | None = Field(None, gt=0)
    """The changes are scaled by lora_alpha / lora_rank; null is the rank."""

    @property
    def trains_lora(self) -> bool:
        """Whether low-rank changes alone are trained: checkpoints hold these, and init_from the rest."""
        return self.part == "lora"


class SampleSettings(Section):
    """How clips are drawn."""

    @model_validator(mode="before")
    @classmethod
    def _pass_over_removed(cls, values: Any) -> Any:
        """Read the files of versions that had more settings."""
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if f"sample.{name}" not in REMOVED}

    sampler: Literal["ddpm", "ddim", "dpm++"] | None = "ddpm"
    """ddpm (Ho et al. 2020), ddim (Song et al. 2021), or dpm++: DPM-Solver++ 2M (Lu et al. 2022). Null is a
    pipeline's own scheduler, and ddpm for a run."""
    steps: int = Field(250, ge=1)
    """Sampling steps, spread evenly over the forward process."""
    respacing: Annotated[str | None, BeforeValidator(_as_text)] = None
    """The original's respacing string ("250", "ddim50", "10,20,30"); overrides steps."""
    eta: float = Field(0.0, ge=0, le=1)
    """Fresh noise of a ddim step: 0 none, 1 as much as ddpm."""
    guidance_scale: float = Field(1.0, ge=0)
    """Classifier-free guidance; 1 is none."""
    num_samples: int = Field(3, ge=1, le=1_000_000)
    """Clips to make."""
    class_labels: tuple[int, ...] = ()
    """Classes to draw, in turn, for condition: class; empty draws 0, 1, 2, ..."""
    prompts: tuple[str, ...] = ()
    """Texts to draw, num_samples clips of each, for condition: text."""
    negative_prompt: str = ""
    """What guidance leads away from, for condition: text."""
    pipeline: Path | None = None
    """Folder of a text-to-video pipeline in the layout of diffusers (Latte-1), in place of a run. What is not
    set of sampler, steps, guidance_scale and num_samples is then its scheduler, 50, 7.5 and 1 a prompt."""
    temporal_decoder: Switch = "auto"
    """Decode a pipeline's clips by its vae_temporal_decoder, which looks at 14 frames together and flickers
    less; auto: where the folder has one, as the original does, and the clip is no picture."""
    dtype: Dtype = "float32"
    """Of a pipeline's weights in memory; a CPU computes in float32."""
    seed: int = Field(42, ge=0, le=LARGEST_SEED)
    """Seed of the first clip; each further clip's is one more."""
    fps: int = Field(8, ge=1)
    """Frames a second of the video files."""


class BenchSettings(Section):
    """What `latte bench` measures."""

    steps: int = Field(20, ge=1)
    """Counted steps a row."""
    warmup_steps: int = Field(3, ge=1)
    """Steps left out at the start of a row; the first is the compile time."""


class Settings(Section):
    """A whole experiment."""

    run_dir: Path = Path("runs/demo")
    """Everything about a run: resolved settings, checkpoints, metrics, samples."""
    seed: int = Field(3407, ge=0, le=LARGEST_SEED)
    """Of everything random in training."""
    device: Literal["auto", "cpu", "ascend", "gpu"] = "auto"
    """Where MindSpore runs; auto takes what its installation was built for."""
    data: DataSettings = DataSettings()
    vae: VaeSettings = VaeSettings()
    text: TextSettings = TextSettings()
    model: ModelSettings = ModelSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    cache: CacheSettings = CacheSettings()
    train: TrainSettings = TrainSettings()
    sample: SampleSettings = SampleSettings()
    bench: BenchSettings = BenchSettings()
