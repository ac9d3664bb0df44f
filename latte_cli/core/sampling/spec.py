"""`ClipSpec`: everything that determines a clip. Its JSON is the sidecar written next to the clip."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, field_serializer

from latte_cli import __version__
from latte_cli.core.checkpoints.lora import LoraUse, lora_files
from latte_cli.core.data.captions.prompts import PromptLine
from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.rules import broken_rules
from latte_cli.core.settings.messages import Fault
from latte_cli.core.settings.schema import LARGEST_SEED, SamplerName, SampleSettings, Settings
from latte_cli.core.settings.section import Dtype
from latte_cli.core.storage.digests import digest_of_files
from latte_cli.core.storage.files import write_file
from latte_cli.core.storage.hub import name_of
from latte_cli.core.storage.json_files import Count, Digest, Model, parse_json, read_json
from latte_cli.core.storage.names import FileName

Format = Literal["mp4", "gif", "png", "latents", "frames"]
SIDECAR = "a sidecar of `latte sample`"
MAX_CLIPS = 1_000_000  # of one `latte sample`; a clip's row is below this
MAX_FRAMES, MAX_SIDE, MAX_STEPS, MAX_FPS = 1 << 16, 1 << 14, 1 << 20, 1000


def _ascending(steps: tuple[int, ...]) -> tuple[int, ...]:
    if steps[0] != 0 or any(after <= before for before, after in pairwise(steps)):
        raise ValueError("expected ascending numbers from 0")
    return steps


Steps = Annotated[tuple[Count, ...], Field(min_length=1, max_length=MAX_STEPS), AfterValidator(_ascending)]
"""The model evaluations of a clip that compute the transformer's blocks, the first among them."""


@dataclass(frozen=True)
class Request:
    """Options of a caller in addition to the settings; None: the default of the run or the pipeline."""

    prompts: Sequence[PromptLine] = ()
    checkpoint: Path | None = None
    """Checkpoint of a run; default: its newest."""
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    lora: Sequence[LoraUse] = ()
    initial_latents: Path | None = None
    """A .npy of noise (N, F, 4, h, w), one row per clip."""
    formats: tuple[Format, ...] | None = None
    out: Path | None = None


class ClipSpec(Model):
    """The fields common to all specs."""

    latte: str = __version__
    """The version of latte that wrote it."""
    name: FileName
    """Name of the clip's files, without suffixes."""
    seed: int = Field(ge=0, le=LARGEST_SEED)
    row: int = Field(ge=0, lt=MAX_CLIPS)
    """The clip's index in its run, and in the noise of `initial_latents`."""
    prompt: str | None = None
    negative_prompt: str | None = None
    lora: tuple[LoraUse, ...] = ()
    """Adapters added to the transformer."""
    initial_latents: Path | None
    sha256: dict[str, Digest]
    """Digest of every file that determines the clip, by path."""
    full_steps: Steps | None = None
    """Indices of the model evaluations that compute the transformer's blocks; None: all."""
    formats: tuple[Format, ...] = Field(min_length=1)
    files: tuple[FileName, ...] = ()
    """Written formats; empty before the clip is made."""

    @field_serializer("*", mode="wrap", when_used="json")
    def _published_by_name(self, value: Any, handler: SerializerFunctionWrapHandler) -> Any:
        """Write the name of published weights, with their commit, and not where this machine keeps them."""
        if value is self.sha256:
            return {name_of(name): digest for name, digest in value.items()}
        return name_of(str(value)) if isinstance(value, Path) else handler(value)


class RunSpec(ClipSpec):
    """A clip of a run's checkpoint. `steps` and `guidance_scale` override those of the settings."""

    class_label: int | None = Field(ge=0)
    steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    guidance_scale: float | None = Field(None, ge=0)
    checkpoint: Path
    settings: Settings

    @property
    def fps(self) -> int:
        """Frames per second of the clip's files."""
        return self.settings.sample.fps

    def sample_settings(self) -> SampleSettings:
        """The sampling settings of this clip."""
        sample = self.settings.sample
        update: dict[str, Any] = {"num_samples": 1, "seed": self.seed}
        if self.steps is not None:
            update |= {"steps": self.steps, "respacing": None}
        if self.guidance_scale is not None:
            update["guidance_scale"] = self.guidance_scale
        if self.class_label is not None:
            update["class_labels"] = (self.class_label,)
        return SampleSettings.model_validate(sample.model_dump() | update)


class PipelineSpec(ClipSpec):
    """A clip of a text-to-video pipeline."""

    prompt: str
    negative_prompt: str
    steps: int = Field(ge=1, le=MAX_STEPS)
    guidance_scale: float = Field(ge=0)
    guidance_every: int = Field(1, ge=1)
    pipeline: Path
    scheduler: str | None = None
    """Class of the pipeline's scheduler, if no sampler replaces it."""
    sampler: SamplerName | None
    eta: float = Field(ge=0, le=1)
    num_frames: int = Field(ge=1, le=MAX_FRAMES)
    height: int = Field(ge=1, le=MAX_SIDE)
    width: int = Field(ge=1, le=MAX_SIDE)
    dtype: Dtype
    """Type of the weights in memory."""
    clean_caption: bool = False
    """Missing in sidecars of versions without caption cleaning."""
    chunk_frames: Literal["auto"] | Annotated[int, Field(ge=1)]
    temporal_decoder: bool = False
    """Whether frames are decoded together. Missing in sidecars of older versions."""
    fps: int = Field(ge=1, le=MAX_FPS)
    device: Literal["auto", "cpu", "ascend", "gpu"]


def write_spec(folder: Path, spec: ClipSpec) -> Path:
    """Write a spec as the sidecar of its clip."""
    path = folder / f"{spec.name}.json"
    write_file(path, spec.model_dump_json(indent=2) + "\n")
    return path


def adapter_digests(spec: ClipSpec) -> Iterator[str]:
    """The digests of a clip's files of adapters, each of its strength too where that is not 1."""
    for use in spec.lora:
        for file in lora_files([use]):
            digest = spec.sha256[str(file)]
            yield digest if use.strength == 1 else sha256(f"{digest} {use.strength!r}".encode()).hexdigest()


def read_spec(path: Path) -> RunSpec | PipelineSpec:
    """Read the spec of a clip from its sidecar. Raises LatteError naming an invalid field."""
    content = read_json(path, dict[str, Any], missing="expected the .json next to a sample", expected=SIDECAR)
    if not {"pipeline", "checkpoint"} & content.keys():
        raise LatteError(f"{path}: found neither checkpoint nor pipeline, expected {SIDECAR}")
    spec = parse_spec(content, source=str(path))
    if isinstance(spec, RunSpec) and (fault := _broken_rule(spec)) is not None:
        raise LatteError(f"{path}: settings.{fault}")
    return spec


def read_specs(folder: Path) -> tuple[list[ClipSpec], int]:
    """The specs of a folder's sidecars, sorted by name, and the number of other or damaged .json files."""
    specs = [_readable(path) for path in sorted(folder.glob("*.json"))]
    return [spec for spec in specs if spec is not None], specs.count(None)


def _readable(sidecar: Path) -> ClipSpec | None:
    """The spec of a sidecar, or None if it cannot be read; does not check whether files have changed."""
    try:
        return parse_spec(read_json(sidecar, dict[str, Any]), source=str(sidecar))
    except LatteError:
        return None


def check_files(spec: ClipSpec, source: Path) -> None:
    """Raise LatteError naming `source` and a file that has changed since the clip was made, or is gone."""
    for name, digest in spec.sha256.items():
        if not Path(name).is_file() or digest_of_files([Path(name)]) != digest:
            raise LatteError(f"{source}: {name_of(name)} is not the file that the clip was made from")


def parse_spec(content: dict[str, Any], *, source: str) -> RunSpec | PipelineSpec:
    """Parse a spec from a JSON object. Raises LatteError naming `source` and the invalid field."""
    lora = content.get("lora")
    if not isinstance(lora, list):  # of versions that took one file, or null
        content = content | {"lora": [] if lora is None else [{"path": lora}]}
    if "pipeline" in content:
        return parse_json(json.dumps(content).encode(), PipelineSpec, source=source)
    if isinstance(settings := content.get("settings"), dict) and isinstance(settings.get("text", {}), dict):
        text = {"clean_caption": False} | settings.get("text", {})  # older sidecars
        content = content | {"settings": settings | {"text": text}}
    return parse_json(json.dumps(content).encode(), RunSpec, source=source)


def _broken_rule(spec: RunSpec) -> Fault | None:
    """The first rule violated by a run's settings combined with those of the clip, or None."""
    settings = spec.settings.model_copy(update={"sample": spec.sample_settings()})
    return next(broken_rules(settings, "sample"), None)
