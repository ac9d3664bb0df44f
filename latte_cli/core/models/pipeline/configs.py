"""The configuration files of a pipeline: the fields that are used, with their ranges."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from latte_cli.core.storage.json_files import Model, Size

MAX_TIMESTEPS = 100_000  # of a scheduler; its tables have one row per timestep
Beta = Annotated[float, Field(ge=0, le=1)]


class VaeConfig(Model):
    """The fields of an autoencoder's `config.json` that cannot be inferred from the weights."""

    block_out_channels: tuple[Size, ...] = Field(min_length=1, max_length=8)
    latent_channels: Size = 4
    scaling_factor: float | None = Field(None, gt=0)


class SchedulerConfig(Model):
    """A `scheduler_config.json`: the common fields, and any others."""

    model_config = ConfigDict(extra="allow")

    num_train_timesteps: int = Field(1000, ge=1, le=MAX_TIMESTEPS)
    beta_start: float = Field(1e-4, ge=0, le=1)
    beta_end: float = Field(0.02, ge=0, le=1)
    beta_schedule: str = "linear"
    prediction_type: str = "epsilon"
    trained_betas: tuple[Beta, ...] | None = Field(None, min_length=1, max_length=MAX_TIMESTEPS)
    steps_offset: int = Field(0, ge=0, le=MAX_TIMESTEPS)


def model_evaluations(scheduler: Mapping[str, Any], steps: int) -> int:
    """How often the scheduler of a `scheduler_config.json` evaluates the model in so many steps."""
    name = scheduler.get("_class_name")
    if name in ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"):
        return 2 * steps - 1  # twice a step, but for the last
    if name == "PNDMScheduler":  # it takes its second step twice, or its first three four times
        return steps + (1 if scheduler.get("skip_prk_steps", False) else 9)
    return steps
