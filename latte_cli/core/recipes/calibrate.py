"""Find the sampling steps to compute in full, for a run or a text-to-video pipeline."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from latte_cli.core.checkpoints.published import Hub
from latte_cli.core.checkpoints.runs import chosen_checkpoint
from latte_cli.core.diffusion.reuse import FullSteps, even_schedule, minimax_schedule
from latte_cli.core.diffusion.schedule import FloatArray
from latte_cli.core.errors import LatteError, found
from latte_cli.core.models.architectures import sizes_of
from latte_cli.core.models.pipeline.folder import open_pipeline
from latte_cli.core.planning.cost import forward_flops
from latte_cli.core.planning.pipeline import absent_plan, pass_flops, pipeline_plan
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.planned import Planned
from latte_cli.core.planning.room import check_folder
from latte_cli.core.planning.runs import sample_plan
from latte_cli.core.planning.timing import DENOISING, add_time
from latte_cli.core.sampling.calibration import (
    REUSE_FILE,
    Calibration,
    FullSchedule,
    Setup,
    pipeline_setup,
    pipeline_weights,
    run_setup,
    write_calibration,
)
from latte_cli.core.sampling.from_pipeline import (
    PipelineGenerator,
    pipeline_specs,
    with_digests,
    with_pipeline_defaults,
)
from latte_cli.core.sampling.from_run import RunGenerator, run_specs, run_weights
from latte_cli.core.sampling.generator import Generator
from latte_cli.core.sampling.local import local_request
from latte_cli.core.sampling.spec import ClipSpec, Request
from latte_cli.core.sampling.stretches import evaluations_of, longest_stretch, stretch_errors
from latte_cli.core.sampling.write import LATENTS, ClipFiles
from latte_cli.core.settings.schema import Settings

EVEN = "even"
WAYS: dict[str, Callable[[FloatArray, int], FullSteps]] = {
    "minimax": minimax_schedule,
    EVEN: lambda errors, full: even_schedule(len(errors), full),
}
"""How a schedule is found, from errors of stretches and a number of full steps."""
NO_FILES = ClipFiles(Path(), (LATENTS,))


@dataclass(frozen=True)
class FoundSchedule:
    """A schedule, and how far clips sampled by it are from those of all steps in full."""

    full_steps: FullSteps
    way: str
    """How it was found: a name of WAYS."""
    error: float
    """Mean absolute difference in the finished latents."""
    even_error: float
    """That of as many evenly spaced steps."""


@dataclass(frozen=True)
class CalibrateReport:
    """Number of full model evaluations done, of clip `clip` of `clips`; at the end the result."""

    done: int
    total: int
    clip: int
    clips: int
    found: tuple[FoundSchedule, ...] = ()


@dataclass(frozen=True)
class CalibrateJob:
    """Clips to measure on, their generator, and the numbers of full steps to find."""

    generator: Generator
    specs: Sequence[ClipSpec]
    weights: tuple[str, ...]
    setup: Setup
    guidance_scale: float
    budgets: tuple[int, ...]
    """Numbers of full steps, fewest first."""
    out: Path

    def run(self) -> Iterator[CalibrateReport]:
        """Measure every stretch of reuse, then write the schedules that come nearest.

        A report before texts are encoded and weights are loaded, then one a stretch and one a step.

        The file is written atomically at the end. Raises LatteError for errors a user can fix.
        """
        longest = longest_stretch(self.setup.steps, self.budgets[0])
        each, number = evaluations_of(self.setup.steps, longest), len(self.specs)
        total = (each + checked_steps(self.setup.steps, self.budgets)) * number
        yield CalibrateReport(0, total, 0, number)
        clips = self.generator.trajectories(self.specs)
        measured, done = [], 0
        for place, clip in enumerate(clips):
            for report in stretch_errors(clip, longest):
                yield CalibrateReport(done + report.done, total, place, number)
            measured.append(report.errors)
            done += each
        mean = np.mean(measured, axis=0)
        tried = [{way: find(mean, budget) for way, find in WAYS.items()} for budget in self.budgets]
        errors = np.zeros((number, len(tried), len(WAYS)))
        for place, clip in enumerate(clips):
            schedules = [None, *(schedule for row in tried for schedule in row.values())]
            latents = []
            for schedule in schedules:
                full = self.setup.steps if schedule is None else len(schedule)
                for step in replace(clip, full_steps=schedule).denoise():
                    now = done + full * (step.index + 1) // step.total
                    yield CalibrateReport(now, total, place, number)
                latents.append(np.asarray(step.x_t, np.float32))
                done += full
            exact, *others = latents
            found = [np.abs(other - exact).mean(dtype=np.float64) for other in others]
            errors[place] = np.reshape(found, errors.shape[1:])
        best = tuple(_nearest(schedules, row) for schedules, row in zip(tried, errors.mean(0), strict=True))
        write_calibration(
            self.out,
            Calibration(
                weights=self.weights,
                setup=self.setup,
                guidance_scale=self.guidance_scale,
                seed=self.specs[0].seed,
                samples=number,
                schedules=tuple(FullSchedule(full_steps=one.full_steps, error=one.error) for one in best),
            ),
        )
        yield CalibrateReport(total, total, number - 1, number, best)


@dataclass(frozen=True)
class PreparedCalibration(Planned):
    """The plan of `latte calibrate`, from settings, small files and headers."""

    job: Callable[[], CalibrateJob]
    """The job, once the plan has no problems."""


def prepare(
    settings: Settings, request: Request, hub: Hub, *, budgets: Sequence[int] = ()
) -> PreparedCalibration:
    """The plan and the job of calibrating a run or a pipeline, on sample.num_samples clips of each prompt.

    Weights are as `hub` finds them.
    budgets: numbers of full steps; none are a half and a third of the steps. request.out: the file to write.
    Raises LatteError naming the file, setting or option at fault.
    """
    # A calibration is of full guidance, and does not depend on an earlier one.
    free = {"full_steps": None, "reuse": None, "guidance_every": 1}
    settings = settings.model_copy(update={"sample": settings.sample.model_copy(update=free)})
    settings, request = local_request(settings, request, hub, decodes=False)
    if settings.sample.pipeline is not None and hub.absent:
        plan = absent_plan(settings.sample.pipeline, [line.text for line in request.prompts])
        return PreparedCalibration(
            settings, plan, lambda: prepare(settings, request, hub, budgets=budgets).job()
        )
    if settings.sample.pipeline is not None:
        return _of_pipeline(with_pipeline_defaults(settings, request), request, budgets)
    setup = run_setup(settings, settings.sample)
    out = request.out or settings.run_dir / REUSE_FILE
    prompts = [line.text for line in request.prompts]
    plan = sample_plan(settings, checkpoint=request.checkpoint, decodes=False, prompts=prompts)
    numbers = _budgets(budgets, setup)
    clips = settings.sample.num_samples * max(1, len(prompts))
    guided = settings.sample.guidance_scale != 1
    _add_work(plan, setup, numbers, clips, flops=(1 + guided) * forward_flops(sizes_of(settings)), out=out)

    def job() -> CalibrateJob:
        checkpoint = chosen_checkpoint(settings, request.checkpoint)
        specs = run_specs(settings, checkpoint, request, NO_FILES)
        scale = settings.sample.guidance_scale
        return CalibrateJob(RunGenerator(), specs, run_weights(specs[0]), setup, scale, numbers, out)

    return PreparedCalibration(settings, plan, job)


def _of_pipeline(settings: Settings, request: Request, budgets: Sequence[int]) -> PreparedCalibration:
    pipeline = open_pipeline(settings.sample.pipeline, decodes=False)
    generator, specs = PipelineGenerator(pipeline), pipeline_specs(settings, request, NO_FILES, pipeline)
    generator.check(specs)
    setup = pipeline_setup(pipeline, specs[0])
    out = request.out or pipeline.path / REUSE_FILE
    numbers, plan = _budgets(budgets, setup), pipeline_plan(generator, specs, NO_FILES)
    flops = (1 + (settings.sample.guidance_scale != 1)) * pass_flops(pipeline, specs[0])
    _add_work(plan, setup, numbers, len(specs), flops=flops, out=out)

    def job() -> CalibrateJob:
        made = with_digests(specs, pipeline, decodes=False)
        weights, scale = pipeline_weights(pipeline, made[0]), settings.sample.guidance_scale
        return CalibrateJob(generator, made, weights, setup, scale, numbers, out)

    return PreparedCalibration(settings, plan, job)


def _budgets(asked: Sequence[int], setup: Setup) -> tuple[int, ...]:
    """The numbers of full steps, fewest first. Raises LatteError for one that leaves nothing to reuse."""
    numbers = sorted(set(asked or (-(-setup.steps // 2), -(-setup.steps // 3))))
    for number in numbers:
        if not 1 <= number < setup.steps:
            wanted = f"from 1 to {setup.steps - 1}, of {setup.steps} steps"
            raise LatteError(f"--budgets: {found(number, wanted)}")
    return tuple(numbers)


def _add_work(plan: Plan, setup: Setup, budgets: Sequence[int], clips: int, *, flops: int, out: Path) -> None:
    """Rows on the measurements, instead of those on sampling the clips."""
    plan.entries = [row for row in plan.entries if row[0] not in ("time", "writes")]
    longest = longest_stretch(setup.steps, budgets[0])
    evaluations = clips * (evaluations_of(setup.steps, longest) + checked_steps(setup.steps, budgets))
    plan.add("full steps", f"{', '.join(map(str, budgets))} of {setup.steps}")
    plan.add("measures", f"stretches of up to {longest} steps, {evaluations:,} full steps in all")
    add_time(plan, evaluations, flops, "full step", share=DENOISING)
    plan.add("writes", str(out))
    plan.check(lambda: check_folder("--out", out.parent))


def checked_steps(steps: int, budgets: Sequence[int]) -> int:
    """Full steps of sampling a clip in full, and by every way for every number of full steps."""
    return steps + len(WAYS) * sum(budgets)


def _nearest(schedules: Mapping[str, FullSteps], errors: FloatArray) -> FoundSchedule:
    """The schedule of least error."""
    by_way = dict(zip(schedules, map(float, errors), strict=True))
    way = min(by_way, key=by_way.__getitem__)
    return FoundSchedule(schedules[way], way, by_way[way], by_way[EVEN])
