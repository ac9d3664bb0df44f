"""Sample clips from a run's checkpoint or a text-to-video pipeline, each with a spec that reproduces it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from latte_cli.core.checkpoints.published import Hub
from latte_cli.core.checkpoints.runs import chosen_checkpoint
from latte_cli.core.models.pipeline.folder import open_pipeline
from latte_cli.core.parallel.world import World
from latte_cli.core.planning.autoencoder import add_decoding
from latte_cli.core.planning.pipeline import absent_plan, add_lora, pipeline_plan
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.planned import Planned
from latte_cli.core.planning.run_memory import add_memory
from latte_cli.core.planning.runs import sample_plan
from latte_cli.core.report.page import RunReport
from latte_cli.core.sampling.calibration import reuse_file
from latte_cli.core.sampling.from_pipeline import (
    PipelineGenerator,
    generator_of,
    pipeline_specs,
    with_digests,
    with_pipeline_defaults,
)
from latte_cli.core.sampling.from_run import RunGenerator, run_specs
from latte_cli.core.sampling.generator import Generator
from latte_cli.core.sampling.local import local_request, local_spec
from latte_cli.core.sampling.spec import ClipSpec, Format, PipelineSpec, Request, check_files, read_spec
from latte_cli.core.sampling.workers import make_all, make_share
from latte_cli.core.sampling.write import DEFAULT_FORMATS, ClipFiles, SampleReport
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.hub import is_name

SAMPLES = "samples"  # of a run folder
IMAGE_FORMATS: tuple[Format, ...] = ("png",)


@dataclass(frozen=True)
class ClipJob:
    """The clips to make, their files, and the generator."""

    generator: Generator
    specs: Sequence[ClipSpec]
    target: ClipFiles
    report: RunReport | None = None
    """Of the run whose samples/ the clips go to, if it is one's."""

    def run(self, *, workers: int = 1) -> Iterator[SampleReport]:
        """Make the clips, yielding every step; files are written atomically, clip by clip.

        workers: processes that share the clips. Raises LatteError for errors a user can fix.
        """
        yield from make_all(self.generator, self.specs, self.target, workers)
        if self.report is not None:
            self.report.update()


@dataclass(frozen=True)
class Prepared(Planned):
    """The plan and the job of `latte sample`, prepared from small files and headers.

    The settings include the pipeline's defaults; None for a replay.
    """

    job: Callable[[], ClipJob]
    """The job, if the plan has no problems."""


def prepare(settings: Settings, request: Request, hub: Hub, *, workers: int = 1) -> Prepared:
    """The plan and the job for settings and flags. `hub` resolves published weights.

    Raises LatteError naming the invalid file, setting or option.
    """
    settings, request = local_request(settings, request, hub)
    if settings.sample.pipeline is None:
        plan = _run_plan(settings, request)
        return Prepared(settings, plan, lambda: job_of(settings, request))
    settings = with_pipeline_defaults(settings, request)
    if settings.sample.pipeline is not None and hub.absent:
        prompts = [line.text for line in request.prompts]
        plan = absent_plan(settings.sample.pipeline, prompts, target_of(settings, request))
        return Prepared(settings, plan, lambda: job_of(settings, request))
    generator, specs, target = _pipeline_clips(settings, request)
    reuse = reuse_file(settings.sample, generator.pipeline.path)
    plan = pipeline_plan(generator, specs, target, workers=workers, reuse=reuse)
    return Prepared(settings, plan, lambda: _pipeline_job(settings, generator, specs, target))


def prepare_replay(sidecar: Path, hub: Hub, *, out: Path | None = None) -> Prepared:
    """The plan and the job for reproducing a clip exactly, next to its sidecar or in `out`.

    Raises LatteError if it is not a sidecar, or if a file that it refers to has changed.
    """
    spec = local_spec(read_spec(sidecar), hub)
    target = ClipFiles(out or sidecar.parent, spec.formats, spec.fps)
    if not hub.absent:
        check_files(spec, sidecar)
    elif isinstance(spec, PipelineSpec):
        plan = absent_plan(spec.pipeline, [spec.prompt], target)
        return Prepared(
            None, plan, lambda: ClipJob(generator_of(spec, decodes=target.decodes), [spec], target)
        )
    if isinstance(spec, PipelineSpec):
        generator = generator_of(spec, decodes=target.decodes)
        generator.check([spec])
        job = ClipJob(generator, [spec], target)
        return Prepared(None, pipeline_plan(generator, [spec], target), lambda: job)
    settings = spec.settings.model_copy(update={"sample": spec.sample_settings()})
    plan = sample_plan(
        settings,
        checkpoint=spec.checkpoint,
        decodes=target.decodes,
        prompts=[] if spec.prompt is None else [spec.prompt],
        out=target.folder,
        full_steps=spec.full_steps,
    )
    plan = _with_memory(plan, settings, target)
    return Prepared(None, plan, lambda: ClipJob(RunGenerator(), [spec], target))


def run(settings: Settings, request: Request | None = None, *, workers: int = 1) -> Iterator[SampleReport]:
    """Sample, yielding every step. Raises LatteError for errors a user can fix."""
    request = request or Request()
    if settings.sample.pipeline is not None:
        settings = with_pipeline_defaults(settings, request)
    yield from job_of(settings, request).run(workers=workers)


def share(settings: Settings, request: Request, world: World) -> Iterator[SampleReport]:
    """Make one worker's share of a job with several workers."""
    target = target_of(settings, request)

    def generator(spec: ClipSpec) -> Generator:
        if isinstance(spec, PipelineSpec):
            return generator_of(spec, decodes=target.decodes)
        return RunGenerator()

    yield from make_share(target, generator, world)


def target_of(settings: Settings, request: Request) -> ClipFiles:
    """Folder and formats of the clips; the folder is by default samples/ in the run folder, or ./samples."""
    of_run = settings.sample.pipeline is None or "run_dir" in settings.model_fields_set
    folder = request.out or (settings.run_dir if of_run else Path()) / SAMPLES
    formats = request.formats or (IMAGE_FORMATS if request.num_frames == 1 else DEFAULT_FORMATS)
    return ClipFiles(folder, formats, settings.sample.fps)


def job_of(settings: Settings, request: Request) -> ClipJob:
    """The job for settings and flags. Raises LatteError naming the invalid file, setting or option."""
    if settings.sample.pipeline is not None:
        return _pipeline_job(settings, *_pipeline_clips(settings, request))
    target = target_of(settings, request)
    checkpoint = chosen_checkpoint(settings, request.checkpoint)
    specs = run_specs(settings, checkpoint, request, target)
    return ClipJob(RunGenerator(), specs, target, _report(settings, target))


def _pipeline_clips(
    settings: Settings, request: Request
) -> tuple[PipelineGenerator, Sequence[PipelineSpec], ClipFiles]:
    """The clips of prompts, with the pipeline folder opened once."""
    target = target_of(settings, request)
    pipeline = open_pipeline(settings.sample.pipeline, decodes=target.decodes)
    generator, specs = PipelineGenerator(pipeline), pipeline_specs(settings, request, target, pipeline)
    generator.check(specs)
    return generator, specs, target


def _pipeline_job(
    settings: Settings, generator: PipelineGenerator, specs: Sequence[PipelineSpec], target: ClipFiles
) -> ClipJob:
    reuse = reuse_file(settings.sample, generator.pipeline.path)
    specs = with_digests(specs, generator.pipeline, decodes=target.decodes, reuse=reuse)
    return ClipJob(generator, specs, target, _report(settings, target))


def _report(settings: Settings, target: ClipFiles) -> RunReport | None:
    """The report of the run whose samples/ clips go to, if they go there."""
    return RunReport(settings) if target.folder == settings.run_dir / SAMPLES else None


def _run_plan(settings: Settings, request: Request) -> Plan:
    target = target_of(settings, request)
    plan = sample_plan(
        settings,
        checkpoint=request.checkpoint,
        decodes=target.decodes,
        prompts=[line.text for line in request.prompts],
        most_steps=max((line.steps or 0 for line in request.prompts), default=0),
        out=request.out,
    )
    add_lora(plan, request.lora)
    for use in request.lora:
        plan.require("--lora", use.path)
    plan.require("--initial-latents", request.initial_latents)
    return _with_memory(plan, settings, target)


def _with_memory(plan: Plan, settings: Settings, target: ClipFiles) -> Plan:
    """Add decoding and memory to the plan of a run's clips, if the autoencoder is available."""
    if target.decodes and is_name(settings.vae.weights):
        return plan
    if target.decodes and not plan.problems:
        data, vae = settings.data, settings.vae
        size = (data.image_size, data.image_size)
        add_decoding(plan, vae.weights, frames=data.num_frames, size=size, asked=vae.chunk_frames)
    if not plan.problems:
        add_memory(plan, settings, decodes=target.decodes)
    return plan
