"""Find the sampling steps to compute in full, for a run or a text-to-video pipeline."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latte_cli.core.checkpoints.runs import chosen_checkpoint
from latte_cli.core.diffusion.reuse import FullSteps, even_schedule, minimax_schedule
from latte_cli.core.diffusion.schedule import FloatArray
from latte_cli.core.errors import LatteError, found
from latte_cli.core.models.architectures import sizes_of
from latte_cli.core.models.pipeline.folder import open_pipeline
from latte_cli.core.planning.cost import forward_flops
from latte_cli.core.planning.pipeline import pass_flops, pipeline_plan
from latte_cli.core.planning.plan import Plan, add_time, sample_plan
from latte_cli.core.planning.room import check_folder
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
from latte_cli.core.sampling.spec import ClipSpec, Request
from latte_cli.core.sampling.stretches import evaluations_of, longest_stretch, stretch_errors
from latte_cli.core.sampling.write import LATENTS, ClipFiles
from latte_cli.core.settings.schema import Settings

NO_FILES = ClipFiles(Path(), (LATENTS,))


@dataclass(frozen=True)
class FoundSchedule:
    """A schedule, and the error of its worst stretch next to that of evenly spaced steps."""

    full_steps: FullSteps
    worst_error: float
    even_error: float


@dataclass(frozen=True)
class CalibrateReport:
    """Full model evaluations done, of clip `clip` of `clips`; at the end what was found."""

    done: int
    total: int
    clip: int
    clips: int
    found: tuple[FoundSchedule, ...] = ()


@dataclass(frozen=True)
class CalibrateJob:
    """Clips to measure on, what makes them, and what is looked for."""

    generator: Generator
    specs: Sequence[ClipSpec]
    weights: tuple[str, ...]
    setup: Setup
    guidance_scale: float
    budgets: tuple[int, ...]
    """Numbers of full steps, fewest first."""
    out: Path

    def run(self) -> Iterator[CalibrateReport]:
        """Measure every stretch of reuse, then write the best schedules; a report after each stretch.

        The file appears whole at the end. Raises LatteError for what a user can fix.
        """
        longest = longest_stretch(self.setup.steps, self.budgets[0])
        each, clips = evaluations_of(self.setup.steps, longest), len(self.specs)
        total, errors = each * clips, []
        for place, clip in enumerate(self.generator.trajectories(self.specs)):
            for report in stretch_errors(clip, longest):
                yield CalibrateReport(place * each + report.done, total, place, clips)
            errors.append(report.errors)
        mean = np.mean(errors, axis=0)
        schedules = [minimax_schedule(mean, budget) for budget in self.budgets]
        best = tuple(
            FoundSchedule(
                schedule, _worst(mean, schedule), _worst(mean, even_schedule(len(mean), len(schedule)))
            )
            for schedule in schedules
        )
        write_calibration(
            self.out,
            Calibration(
                weights=self.weights,
                setup=self.setup,
                guidance_scale=self.guidance_scale,
                seed=self.specs[0].seed,
                samples=clips,
                schedules=tuple(
                    FullSchedule(full_steps=one.full_steps, worst_error=one.worst_error) for one in best
                ),
            ),
        )
        yield CalibrateReport(total, total, clips - 1, clips, best)


@dataclass(frozen=True)
class PreparedCalibration:
    """What `latte calibrate` would do, as far as settings, small files and headers show."""

    settings: Settings
    plan: Plan
    job: Callable[[], CalibrateJob]
    """The job, once the plan has no problems."""


def prepare(settings: Settings, request: Request, *, budgets: Sequence[int] = ()) -> PreparedCalibration:
    """The plan and the job of calibrating a run or a pipeline, on sample.num_samples clips of each prompt.

    budgets: numbers of full steps; none are a half and a third of the steps. request.out: the file to write.
    Raises LatteError naming the file, setting or option at fault.
    """
    # A calibration is of full guidance, and does not depend on an earlier one.
    free = {"full_steps": None, "reuse": None, "guidance_every": 1}
    settings = settings.model_copy(update={"sample": settings.sample.model_copy(update=free)})
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
    """Rows on what is measured, in place of those on sampling the clips."""
    plan.rows = [row for row in plan.rows if row[0] not in ("time", "writes")]
    longest = longest_stretch(setup.steps, budgets[0])
    evaluations = clips * evaluations_of(setup.steps, longest)
    plan.add("full steps", f"{', '.join(map(str, budgets))} of {setup.steps}")
    plan.add("measures", f"stretches of up to {longest} steps, {evaluations:,} full steps in all")
    add_time(plan, evaluations, flops, "full step")
    plan.add("writes", str(out))
    plan.check(lambda: check_folder("--out", out.parent))


def _worst(errors: FloatArray, schedule: FullSteps) -> float:
    """The error of a schedule's worst stretch."""
    ends = (*schedule[1:], len(errors))
    return max(float(errors[start, end]) for start, end in zip(schedule, ends, strict=True))
