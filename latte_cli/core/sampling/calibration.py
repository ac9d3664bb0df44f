"""`reuse.json`: the steps to compute in full that `latte calibrate` found, and the setup they apply to."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from latte_cli import __version__
from latte_cli.core.diffusion.reuse import FullSteps, even_schedule
from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.errors import LatteError, found, shown_value
from latte_cli.core.models.pipeline.folder import PipelineFolder
from latte_cli.core.models.text.folder import part_files
from latte_cli.core.sampling.spec import MAX_STEPS, PipelineSpec, Steps, adapter_digests
from latte_cli.core.settings.schema import SampleSettings, Settings
from latte_cli.core.storage.files import write_file
from latte_cli.core.storage.json_files import Digest, Model, read_json

REUSE_FILE = "reuse.json"
WAY_OUT = "run latte calibrate again, or give --reuse even"
MAX_SCHEDULES = 1 << 10


class Setup(Model):
    """Everything a schedule depends on; other values need another calibration."""

    sampler: str
    """A name of `SAMPLERS`, or the class of a pipeline's scheduler."""
    steps: int = Field(ge=1, le=MAX_STEPS)
    """Model evaluations of a clip."""
    respacing: str | None = None
    eta: float
    num_frames: int
    height: int
    width: int


class FullSchedule(Model):
    """A schedule with a given number of full steps."""

    full_steps: Steps
    error: float = Field(ge=0)
    """Mean absolute difference of the final latents from those with all steps in full."""


class Calibration(Model):
    """The content of `reuse.json`. `seed`, `samples` and `guidance_scale` are informative only."""

    format: Literal["latte reuse 1"] = "latte reuse 1"
    latte: str = __version__
    weights: tuple[Digest, ...]
    """SHA-256 of the transformer's weights files."""
    setup: Setup
    guidance_scale: float
    seed: int
    samples: int
    schedules: tuple[FullSchedule, ...] = Field(max_length=MAX_SCHEDULES)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write `reuse.json` atomically."""
    write_file(path, calibration.model_dump_json(indent=1) + "\n")


def reuse_file(sample: SampleSettings, folder: Path) -> Path | None:
    """The file with the full steps: sample.reuse, or the one in `folder`; None if there is no file."""
    if sample.reuse == "even":
        return None
    if sample.reuse is not None:
        return sample.reuse
    path = folder / REUSE_FILE
    return path if path.exists() else None


def full_steps_of(sample: SampleSettings, setup: Setup, file: Path | None) -> FullSteps | None:
    """The steps to compute in full for sample.full_steps; None: all.

    file: see `reuse_file`. Raises LatteError if there are fewer steps, or if the file is of another setup or
    has no schedule with this number.
    """
    full, steps = sample.full_steps, setup.steps
    if full is None or full == steps:
        return None
    if full > steps:
        raise LatteError(f"sample.full_steps: {found(full, f'at most the {steps} sampling steps')}")
    if file is None:
        return even_schedule(steps, full)
    calibration = _read(file)
    for name, mine in setup.model_dump().items():
        if (theirs := getattr(calibration.setup, name)) != mine:
            raise LatteError(f"{file}: {name}: {found(theirs, shown_value(mine))}; {WAY_OUT}")
    for schedule in calibration.schedules:
        if len(schedule.full_steps) == full:
            if (last := schedule.full_steps[-1]) >= steps:
                raise LatteError(f"{file}: full_steps: {found(last, f'less than setup.steps {steps}')}")
            return schedule.full_steps
    budgets = ", ".join(str(len(schedule.full_steps)) for schedule in calibration.schedules)
    raise LatteError(f"{file}: found schedules of {budgets or 'no'} full steps, expected {full}; {WAY_OUT}")


def check_weights(file: Path | None, weights: tuple[str, ...]) -> None:
    """Raise LatteError if a calibration was made with weights of other digests."""
    if file is not None and _read(file).weights != weights:
        raise LatteError(f"{file}: found a calibration of other weights, expected one of these; {WAY_OUT}")


def run_setup(settings: Settings, sample: SampleSettings) -> Setup:
    """The setup of a run's clip. Raises LatteError like `make_schedule`."""
    data = settings.data
    schedule = make_schedule(settings.diffusion, sample.respacing or str(sample.steps))
    return Setup(
        sampler=sample.sampler or "ddpm",
        steps=schedule.num_timesteps,
        respacing=sample.respacing,
        eta=sample.eta,
        num_frames=data.num_frames,
        height=data.image_size,
        width=data.image_size,
    )


def pipeline_setup(pipeline: PipelineFolder, spec: PipelineSpec) -> Setup:
    """The setup of a pipeline's clip."""
    return Setup(
        sampler=spec.sampler or str(spec.scheduler),
        steps=pipeline.evaluations(spec.sampler, spec.steps),
        eta=spec.eta,
        num_frames=spec.num_frames,
        height=spec.height,
        width=spec.width,
    )


def pipeline_weights(pipeline: PipelineFolder, spec: PipelineSpec) -> tuple[str, ...]:
    """The digests of the transformer's weights files and of the adapters added to them."""
    own = [spec.sha256[str(file)] for file in part_files(pipeline.transformer)]
    return (*own, *adapter_digests(spec))


def _read(path: Path) -> Calibration:
    return read_json(path, Calibration, expected="a file that latte calibrate wrote")
