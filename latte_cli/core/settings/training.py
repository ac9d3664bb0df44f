"""The section `train` of the experiment file."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from latte_cli.core.settings.section import Dtype, Section, Switch


class TrainSettings(Section):
    """Optimisation, precision, logging and checkpoints."""

    batch_size: int = Field(5, ge=1)
    """Clips per worker in one forward pass."""
    steps: int = Field(1_000_000, ge=1)
    """Optimizer steps."""
    accumulation: int = Field(1, ge=1)
    """Forward passes accumulated into one optimizer step."""
    learning_rate: float = Field(1e-4, gt=0)
    """AdamW's learning rate after warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate after warm-up: constant, or a linear or half-cosine decay to zero at the last step."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay, applied to matrices only."""
    clip_norm: float | None = Field(None, gt=0)
    """Maximum global norm of the gradients; null: no clipping."""
    clip_start: int = Field(0, ge=0)
    """First step whose gradients are clipped."""
    ema_decay: float = Field(0.9999, ge=0, lt=1)
    """Decay of the averaged weights (EMA) used for sampling; warms up as (1 + step) / (10 + step)."""
    dtype: Dtype = "float16"
    """Arithmetic of the blocks; see docs/train.md for what stays float32."""
    recompute: bool = False
    """Recompute each block's activations in the backward pass: less memory, more time."""
    flash_attention: Switch = "auto"
    """Ascend's fused attention, for float16 and bfloat16; auto: if available. Untested on Ascend."""
    sink_mode: Switch = "auto"
    """MindSpore's data sinking, for cached latents on Ascend and GPU; auto: on Ascend. Untested on both."""
    jit_level: Literal["O0", "O1"] = "O0"
    """Optimization of the compiled step on Ascend and GPU: O1 also fuses operators. Untested on both."""
    max_device_memory: Annotated[str | None, Field(pattern=r"^[1-9]\d*(\.\d+)?GB$", examples=["59GB"])] = None
    """Memory that MindSpore may take of an Ascend or GPU, such as 59GB; null: all of it. Untested on both."""
    shard_optimizer: bool = False
    """Divide AdamW's moments and the averaged weights among the workers: less memory, more communication."""
    log_every: int = Field(50, ge=1)
    """Steps averaged in each line of metrics.jsonl."""
    validate_every: int = Field(0, ge=0)
    """Steps from one validation loss to the next: that of the averaged weights on data.validation. 0 computes
    none."""
    validate_clips: int = Field(64, ge=1)
    """Clips of a validation loss: the same ones every time, with the same noise."""
    checkpoint_every: int = Field(10_000, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(3, ge=1)
    """Number of newest checkpoints to keep."""
    keep_best: bool = False
    """Save a checkpoint whenever the validation loss is the lowest so far, and keep it besides the newest."""
    preview_every: int = Field(0, ge=0)
    """Steps between previews, up to three clips of `sample` in the run's samples/; 0: none. The first worker
    samples them from the averaged weights; this needs memory for a second float32 model (4 bytes per
    parameter), the autoencoder, and for prompts, the first time, the text encoder."""
    tracker: Literal["none", "wandb", "swanlab"] = "none"
    """Service that also gets metrics and previews, if its package is installed."""
    init_from: Path | None = None
    """Initial weights, a path or a published name such as hf://maxin-cn/Latte/ucf101.pt: a checkpoint of this
    program, the PyTorch original or MindONE; for latte-t2v also a pipeline folder or its transformer folder.
    Null: random weights, regardless of sample.pretrained."""
    part: Literal["all", "temporal", "lora"] = "all"
    """Parameters to train in a latte-t2v: all, the temporal blocks, or low-rank adapters of its attention
    (LoRA, Hu et al. 2021) while the weights of init_from stay frozen."""
    lora_rank: int = Field(16, ge=1)
    """Rank of the adapters, for part: lora."""
    lora_alpha: float | None = Field(None, gt=0)
    """Adapters are scaled by lora_alpha / lora_rank; null: the rank."""

    @property
    def trains_lora(self) -> bool:
        """Whether only LoRA adapters are trained: checkpoints contain them, init_from the other weights."""
        return self.part == "lora"
