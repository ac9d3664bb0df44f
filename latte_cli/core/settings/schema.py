"""The experiment file: one YAML for all commands, typed, documented and frozen. Imports no MindSpore."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from latte_cli.core.latents import SCALING_FACTOR, VAE_FACTOR
from latte_cli.core.settings.section import Dtype, Section, Switch
from latte_cli.core.settings.training import TrainSettings

SamplerName = Literal["ddpm", "ddim", "dpm++"]
ArchitectureName = Literal["latte", "latte-t2v"]  # folders of core/models, see models.architectures
BATCH_FRAMES = 8  # frames per encoder call, for a cache or a data set in memory
LARGEST_SEED = 2**63 - 1
REMOVED = {"sample.batch_size": "clips are sampled one at a time"}
"""Settings of older versions: accepted and ignored, for this reason."""


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class DataSettings(Section):
    """The videos, and how clips are cut from them."""

    root: Path | None = None
    """Folder of videos: video files, GIFs and folders of frames, nested to any depth."""
    image_size: int = Field(256, ge=VAE_FACTOR, multiple_of=VAE_FACTOR)
    """Height and width of a frame in pixels."""
    num_frames: int = Field(16, ge=1)
    """Frames per clip."""
    frame_stride: int = Field(3, ge=1)
    """Source frames between consecutive frames of a clip."""
    transform: Literal["crop_resize", "resize_crop"] = "crop_resize"
    """crop_resize: crop the largest centred square, then resize (Sky, Taichi). resize_crop: resize the short
    side, then crop the centre (UCF101, FaceForensics)."""
    spacing: Literal["stride", "linspace"] = "stride"
    """How frames are chosen within a clip's span: stride takes every frame_stride-th (Sky, Taichi), linspace
    spreads num_frames evenly over it (UCF101, FaceForensics)."""
    random_flip: bool = False
    """Mirror a clip horizontally with probability 0.5."""
    use_image_num: int = Field(0, ge=0)
    """Still images from other videos appended to each clip (joint image-video training)."""
    labels: Path | None = None
    """Class labels for condition: class: a text file of `video-or-folder label` lines. Null: every folder is
    a class, numbered in sorted order."""
    validation: Annotated[float, Field(gt=0, lt=1)] | Path | None = None
    """Videos for the validation loss: a folder of their own, laid out like root, or the share of root's
    videos to hold out of training, such as 0.1. A hash of its name decides whether a video is held out."""
    captions: Path | None = None
    """Captions for condition: text: a CSV or JSON-lines file (video, caption), or a folder of .txt files.
    Null: the .txt file next to each video."""
    workers: int = Field(2, ge=1, le=256)
    """Threads that decode videos ahead of training."""


class VaeSettings(Section):
    """The autoencoder between pixels and latents."""

    weights: str | None = None
    """A weights file, a diffusers folder, a published name such as hf://stabilityai/sd-vae-ft-mse, or "demo":
    the small autoencoder shipped with this package."""
    scaling_factor: float = Field(SCALING_FACTOR, gt=0)
    """Factor by which the encoder's samples are multiplied (Rombach et al. 2022)."""
    chunk_frames: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Frames encoded or decoded at a time; does not change the results. Auto: as many as are faster together
    and fit into half of the free memory."""

    @property
    def batch_frames(self) -> int:
        """Frames passed to the encoder together; it may split them into smaller chunks."""
        return BATCH_FRAMES if self.chunk_frames == "auto" else self.chunk_frames


class TextSettings(Section):
    """The text encoder for captions and prompts, for condition: text."""

    encoder: Path | None = None
    """Folder of a text encoder with its tokenizer, a pipeline folder, or a published name (hf://...): CLIP
    for latte, T5 for latte-t2v. Null: the encoder of train.init_from if that is a pipeline."""
    dtype: Dtype = "float32"
    """Type of the encoder's matrix products on Ascend and GPU; float32 on a CPU."""
    clean_caption: bool = True
    """Remove URLs, HTML, file names and unusual characters from T5's texts, as in Latte's pipeline."""


class ModelSettings(Section):
    """The transformer: a preset, explicit sizes, or both (explicit sizes override the preset's)."""

    architecture: ArchitectureName = "latte"
    """latte: Latte, conditioned by adaptive layer norm. latte-t2v: the text-to-video transformer of Latte-1,
    conditioned by cross-attention to captions."""
    preset: str | None = None
    """Latte-XL/2, Latte-L/4, Latte-B/8, Latte-S/2, ...: size / patch size. For latte-t2v: Latte-1."""
    hidden_size: int | None = Field(None, ge=1)
    """Width of the hidden states."""
    depth: int | None = Field(None, ge=2)
    """Number of blocks, spatial and temporal together; even."""
    num_heads: int | None = Field(None, ge=1)
    """Number of attention heads; divides hidden_size."""
    patch_size: int | None = Field(None, ge=1)
    """Patch size in latent pixels; divides image_size / 8."""
    mlp_ratio: float = Field(4.0, gt=0)
    """Width of the MLP as a multiple of hidden_size."""
    condition: Literal["none", "class", "text"] = "none"
    """Condition of the model in addition to the timestep."""
    num_classes: int | None = Field(None, ge=1)
    """Number of classes for condition: class; the label num_classes means "no condition"."""
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    """Probability that training drops the condition, for classifier-free guidance."""
    learn_sigma: bool = True
    """Predict the variance in addition to the noise."""
    patch_embedder: Literal["conv", "linear"] = "conv"
    """Operator of the patch embedding: same weights, same result; bfloat16 requires linear."""


class DiffusionSettings(Section):
    """The forward diffusion process."""

    num_timesteps: int = Field(1000, ge=1, le=1_000_000)
    """Steps of the forward process."""
    beta_schedule: Literal["linear", "squaredcos_cap_v2"] = "linear"
    """Noise added per step; linear: from 1e-4 to 0.02 (Ho et al. 2020)."""


class CacheSettings(Section):
    """Latents encoded once by `latte cache`."""

    dir: Path | None = None
    """Folder of the cache; if set, train reads it instead of the videos."""
    type: Literal["numpy", "mindrecord"] = "numpy"
    """numpy: one memory-mappable file per video. mindrecord: MindRecord shards."""
    store: Literal["moments", "sample"] = "moments"
    """moments: mean and log-variance, from which training samples new latents; sample: one sample."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored values."""
    mirror: bool = False
    """Also store a mirrored copy; required for data.random_flip."""
    in_memory: bool = False
    """If dir is not set: encode all videos at the start of training and keep the moments in memory. For small
    data sets."""


class SampleSettings(Section):
    """Sampling."""

    @model_validator(mode="before")
    @classmethod
    def _pass_over_removed(cls, values: Any) -> Any:
        """Accept the settings of older versions that no longer exist."""
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if f"sample.{name}" not in REMOVED}

    sampler: SamplerName | None = "ddpm"
    """ddpm (Ho et al. 2020), ddim (Song et al. 2021), or dpm++: DPM-Solver++ 2M (Lu et al. 2022). Null: the
    pipeline's scheduler, or ddpm for a run."""
    steps: int = Field(250, ge=1)
    """Sampling steps, evenly spaced over the forward process."""
    respacing: Annotated[str | None, BeforeValidator(_as_text)] = None
    """Respacing string as in the original ("250", "ddim50", "10,20,30"); overrides steps."""
    eta: float = Field(0.0, ge=0, le=1)
    """Noise added in each ddim step: 0 for none, 1 for as much as ddpm."""
    full_steps: int | None = Field(None, ge=1)
    """Steps that compute the transformer's blocks; the others reuse the blocks' change of the last of them.
    Null: all steps."""
    reuse: Literal["even"] | Path | None = None
    """What chooses the full steps: a file of `latte calibrate`, or "even" spacing. Null: reuse.json in the
    folder of the run or the pipeline if there is one, else even spacing."""
    guidance_scale: float = Field(1.0, ge=0)
    """Classifier-free guidance scale; 1 disables guidance."""
    guidance_every: int = Field(1, ge=1)
    """Compute guidance's unconditional branch only in every so many full steps, and keep its difference from
    the conditional branch in between."""
    num_samples: int = Field(3, ge=1, le=1_000_000)
    """Number of clips."""
    class_labels: tuple[int, ...] = ()
    """Classes to sample, in turn, for condition: class; empty: 0, 1, 2, ..."""
    prompts: tuple[str, ...] = ()
    """Prompts to sample, num_samples clips each, for condition: text."""
    negative_prompt: str = ""
    """Prompt that guidance steers away from, for condition: text."""
    pretrained: Path | None = None
    """Weights to sample from while the run folder has no checkpoint, a path or a published name such as
    hf://maxin-cn/Latte/skytimelapse.pt."""
    pipeline: Path | None = None
    """Folder of a text-to-video pipeline in diffusers' layout, or a published name such as
    hf://maxin-cn/Latte-1, to use instead of a run. Changes the defaults: sampler: null (its scheduler),
    steps: 50, guidance_scale: 7.5, num_samples: 1 (per prompt)."""
    temporal_decoder: Switch = "auto"
    """Decode a pipeline's clips with its vae_temporal_decoder, which decodes 14 frames together and flickers
    less. Auto: if the folder has one and the clip has more than one frame, like the original."""
    dtype: Dtype = "float32"
    """Type of a pipeline's weights in memory; a CPU computes in float32."""
    seed: int = Field(42, ge=0, le=LARGEST_SEED)
    """Seed of the first clip; it increases by one with each clip."""
    fps: int = Field(8, ge=1)
    """Frames per second of the video files."""


class BenchSettings(Section):
    """Settings of `latte bench`."""

    steps: int = Field(20, ge=1)
    """Measured steps per row."""
    warmup_steps: int = Field(3, ge=1)
    """Steps before the measured ones; the first gives the compile time."""


class Settings(Section):
    """A complete experiment."""

    run_dir: Path = Path("runs/demo")
    """Folder of the run: resolved settings, checkpoints, metrics, samples."""
    seed: int = Field(3407, ge=0, le=LARGEST_SEED)
    """Seed of everything random in training."""
    device: Literal["auto", "cpu", "ascend", "gpu"] = "auto"
    """MindSpore's device; auto: the one its installation was built for."""
    data: DataSettings = DataSettings()
    vae: VaeSettings = VaeSettings()
    text: TextSettings = TextSettings()
    model: ModelSettings = ModelSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    cache: CacheSettings = CacheSettings()
    train: TrainSettings = TrainSettings()
    sample: SampleSettings = SampleSettings()
    bench: BenchSettings = BenchSettings()
