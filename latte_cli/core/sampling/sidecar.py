"""The record beside a clip: what made it, as JSON, so that it can be made again to the same bytes."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from latte_cli.core.digests import digest_of_files
from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.rules import broken_rules
from latte_cli.core.json_files import Digest, Model, read_json
from latte_cli.core.names import FileName
from latte_cli.core.settings.messages import Fault
from latte_cli.core.settings.schema import Dtype, Settings

Format = Literal["mp4", "gif", "png", "latents"]
Record = dict[str, Any]
WANTED = "a sidecar that `latte sample` wrote"
MAX_CLIPS = 1_000_000  # of one run of `latte sample`: what a clip's row is below
MAX_FRAMES, MAX_SIDE, MAX_STEPS, MAX_FPS = 1 << 16, 1 << 14, 1 << 20, 1000


class Sidecar(Model):
    """What every clip's record holds."""

    latte: str
    """The version that wrote it."""
    name: FileName
    """Of the clip's files, without their suffixes."""
    seed: int = Field(ge=0)
    row: int = Field(ge=0, lt=MAX_CLIPS)
    """The clip's place in its run, and of its noise in `initial_latents`."""
    initial_latents: Path | None
    sha256: dict[str, Digest]
    """Of every file that the clip was made from, by its path."""
    formats: tuple[Format, ...] = Field(min_length=1)
    files: tuple[FileName, ...]


class RunSidecar(Sidecar):
    """A clip of a run's checkpoint."""

    checkpoint: Path
    settings: Settings
    class_label: int | None = Field(ge=0)
    prompt: str | None = None
    negative_prompt: str | None = None
    steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    guidance_scale: float | None = Field(None, ge=0)


class PipelineSidecar(Sidecar):
    """A clip of a text-to-video pipeline."""

    pipeline: Path
    lora: Path | None
    prompt: str
    negative_prompt: str
    sampler: Literal["ddpm", "ddim", "dpm++"] | None
    steps: int = Field(ge=1, le=MAX_STEPS)
    guidance_scale: float = Field(ge=0)
    eta: float = Field(ge=0, le=1)
    num_frames: int = Field(ge=1, le=MAX_FRAMES)
    height: int = Field(ge=1, le=MAX_SIDE)
    width: int = Field(ge=1, le=MAX_SIDE)
    dtype: Dtype
    clean_caption: bool = False
    """Records of before cleaning have none."""
    chunk_frames: Literal["auto"] | Annotated[int, Field(ge=1)]
    temporal_decoder: bool = False
    """Records of before there was one have none."""
    fps: int = Field(ge=1, le=MAX_FPS)
    device: Literal["auto", "cpu", "ascend", "gpu"]


def read_record(path: Path, *, check: bool = True) -> Record:
    """The record beside a clip, its keys as they are in the file, and what was so before a key was.

    Raises LatteError naming the field at fault, or with `check` a file that has changed since or is gone.
    """
    record = read_json(path, Record, wanted=WANTED)
    if "pipeline" in record:
        sidecar: Sidecar = read_json(path, PipelineSidecar)
        record.setdefault("clean_caption", False)
        record.setdefault("temporal_decoder", False)
    elif "checkpoint" in record:
        run = sidecar = read_json(path, RunSidecar)
        if (fault := _broken_rule(run)) is not None:
            raise LatteError(f"{path}: settings.{fault}")
        record["settings"].setdefault("text", {}).setdefault("clean_caption", False)
    else:
        raise LatteError(f"{path}: found neither checkpoint nor pipeline, wanted {WANTED}")
    for name, digest in sidecar.sha256.items() if check else ():
        if not Path(name).is_file() or digest_of_files([Path(name)]) != digest:
            raise LatteError(f"{path}: {name} is not the file that the clip was made from")
    return record


def _broken_rule(sidecar: RunSidecar) -> Fault | None:
    """The first rule that a run's settings break, those of the clip among them."""
    settings, update = sidecar.settings, dict[str, Any]()
    if sidecar.class_label is not None:
        update["class_labels"] = (sidecar.class_label,)
    if sidecar.steps is not None:
        update |= {"steps": sidecar.steps, "respacing": None}
    sample = settings.sample.model_copy(update=update)
    return next(broken_rules(settings.model_copy(update={"sample": sample}), "sample"), None)
