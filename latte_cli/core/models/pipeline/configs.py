"""The small files of a pipeline, as far as they are used: their values, and the ranges of these."""

from typing import Annotated

from pydantic import ConfigDict, Field

from latte_cli.core.storage.json_files import Model, Size

MAX_TIMESTEPS = 100_000  # of a scheduler, whose tables have so many rows
Beta = Annotated[float, Field(ge=0, le=1)]


class VaeConfig(Model):
    """An autoencoder's `config.json`, as far as weights do not tell it."""

    block_out_channels: tuple[Size, ...] = Field(min_length=1, max_length=8)
    latent_channels: Size = 4
    scaling_factor: float | None = Field(None, gt=0)


class SchedulerConfig(Model):
    """A `scheduler_config.json`: what all schedulers have, and whatever else one of them has."""

    model_config = ConfigDict(extra="allow")

    num_train_timesteps: int = Field(1000, ge=1, le=MAX_TIMESTEPS)
    beta_start: float = Field(1e-4, ge=0, le=1)
    beta_end: float = Field(0.02, ge=0, le=1)
    beta_schedule: str = "linear"
    prediction_type: str = "epsilon"
    trained_betas: tuple[Beta, ...] | None = Field(None, min_length=1, max_length=MAX_TIMESTEPS)
    steps_offset: int = Field(0, ge=0, le=MAX_TIMESTEPS)
