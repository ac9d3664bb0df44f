"""The training loop: a generator of reports, used by the CLI, tests and bench."""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.runs import Best, checkpoint_at
from latte_cli.core.data.clips.batches import ClipSource, Sharing, batches
from latte_cli.core.diffusion.schedule import Schedule
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.parallel.collective import Collective
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.captioning import CaptionSampler
from latte_cli.core.training.inputs import StepInputs, draw_inputs, latents_of
from latte_cli.core.training.optimizer import learning_rate
from latte_cli.core.training.report import TrainReport, metrics_line
from latte_cli.core.training.sharding import Optimizer
from latte_cli.core.training.state import (
    Progress,
    load_state,
    read_progress,
    save_companions,
    save_state,
    send_state,
    tensors_of,
)
from latte_cli.core.training.step import Done, Losses
from latte_cli.core.training.stepping import Steps
from latte_cli.core.training.validation import Validation

NOT_READ = Done(Losses(math.nan, math.nan, math.nan), math.nan, overflow=False)


class Trainer:
    """The state of a run in memory: model, optimizer and progress; see `make_trainer`.

    With several workers, connected by `collective`, each has a Trainer with identical state, and only the
    first one writes files. `captions` provides text conditions, for condition: text.
    """

    def __init__(
        self,
        settings: Settings,
        model: Transformer,
        *,
        optimizer: Optimizer,
        steps: Steps,
        schedule: Schedule,
        collective: Collective,
        progress: Progress,
        captions: CaptionSampler | None = None,
    ):
        self.settings = settings
        self.model = model
        self.schedule = schedule
        self.collective = collective
        self.captions = captions
        self.optimizer, self.steps = optimizer, steps
        train, data, world = settings.train, settings.data, collective.world
        self.sharing = Sharing(train.batch_size, train.accumulation, world.rank, world.size)
        self.frames_per_step = self.sharing.global_batch * (data.num_frames + data.use_image_num)
        self.validation_loss: float | None = None
        self.last, self.seconds = NOT_READ, math.nan
        self._begun: float | None = None
        self._first = 0
        self.tensors = tensors_of(model, self.optimizer, trained_only=train.trains_lora)
        self.progress = replace(progress, global_batch=self.sharing.global_batch)

    def resume(self, path: Path) -> None:
        """Resume from a checkpoint. Raises LatteError if it is damaged or of another model."""
        found = read_progress(path)
        load_state(path, self.tensors)
        self.progress = replace(
            found,
            settings=self.progress.settings,
            data=self.progress.data,
            base=self.progress.base,
            global_batch=self.sharing.global_batch,
        )

    def save(self) -> Path | None:
        """Write a checkpoint, if this is the worker that writes files. Must be called by all workers."""
        self.read()
        if not self.collective.world.is_first:
            send_state(self.tensors, self.collective)
            return None
        folder, keep = self.settings.run_dir / "ckpt", self.settings.train.keep
        save_companions(checkpoint_at(folder, self.progress.step), self.model, self.tensors)
        return save_state(folder, self.tensors, self.progress, keep=keep, collective=self.collective)

    def run(
        self,
        source: ClipSource,
        encode: Callable[[Array], Array] | None,
        *,
        stopping: Callable[[], bool] = lambda: False,
        preview: Callable[[int], object] | None = None,
        validate: Validation | None = None,
    ) -> Iterator[TrainReport]:
        """Train to the last step, yielding every step; saves according to the settings, and when `stopping`.

        All workers stop after the step at which one is `stopping`. `preview` is called after every
        `train.preview_every`-th step, once that is done and saved; `validate` returns the loss, after every
        `train.validate_every`-th step and the last. Raises LatteError if the loss is no longer finite; the
        last checkpoint is from before.
        """
        train = self.settings.train
        self._first = self.progress.step
        self.steps.start(
            partial(self._inputs, source, encode, self.progress), self._first, self.progress.loss_scale
        )
        try:
            while self.progress.step < train.steps:
                report, improved = self._logged(self.step(), validate)
                # The caller writes the line of metrics before the next checkpoint is saved.
                yield report
                # Workers ask each other only where they wait for the device anyway.
                asks = self.collective.world.size == 1 or self._reads(report.step)
                done = report.step == train.steps or (asks and self.collective.anywhere(stopping()))
                if done or improved or report.step % train.checkpoint_every == 0:
                    self.save()
                if train.preview_every and report.step % train.preview_every == 0:
                    self.optimizer.collect()
                    if preview:
                        preview(report.step)
                if done:
                    return
        finally:
            self.steps.close()

    def _inputs(
        self, source: ClipSource, encode: Callable[[Array], Array] | None, start: Progress
    ) -> Generator[StepInputs, None, None]:
        """The inputs of consecutive passes from `start`, drawn on demand."""
        settings = self.settings
        stream = batches(
            source,
            data=settings.data,
            sharing=self.sharing,
            seed=settings.seed,
            start_step=start.step,
            start_position=start.clips_taken,
        )
        with closing(stream):
            for batch in stream:
                x_start = latents_of(
                    batch,
                    encode,
                    scaling_factor=settings.vae.scaling_factor,
                    seed=settings.seed,
                    stored=settings.cache.store == "sample",
                )
                yield draw_inputs(
                    batch, x_start, settings=settings, schedule=self.schedule, captions=self.captions
                )

    def step(self) -> TrainReport:
        """Do one optimizer step on the next passes; its results may only be read later."""
        train, step = self.settings.train, self.progress.step
        if self._begun is None:
            self._begun = time.perf_counter()
        self.steps.take(step, self.progress.loss_scale)
        self.progress = replace(
            self.progress,
            step=step + 1,
            clips_taken=self.progress.clips_taken + self.sharing.global_batch,
        )
        if self._reads(step + 1):
            self.read()
        return TrainReport(
            step=step + 1,
            steps=train.steps,
            losses=self.last.losses,
            grad_norm=self.last.grad_norm,
            learning_rate=learning_rate(train, step),
            loss_scale=self.progress.loss_scale,
            seconds=self.seconds,
            frames_per_second=self.frames_per_step / self.seconds,
        )

    def _reads(self, step: int) -> bool:
        """Whether results are read after a step: what follows it needs them, or it is the first of a run."""
        train = self.settings.train
        every = (train.log_every, train.checkpoint_every, train.preview_every, train.validate_every)
        due = any(steps and step % steps == 0 for steps in every)
        return self.steps.reads_all or due or step in (self._first + 1, train.steps)

    def read(self) -> None:
        """Wait for the steps done so far, and count them. Raises LatteError if a loss is not finite."""
        found = self.steps.read()
        if not found:
            return
        assert self._begun is not None
        self.seconds = (time.perf_counter() - self._begun) / len(found)
        self._begun = None
        for place, done in enumerate(found, 1 - len(found)):
            self.last = done
            self._count(done, self.progress.step + place)

    def _logged(self, report: TrainReport, validate: Validation | None) -> tuple[TrainReport, bool]:
        """The report with the latest validation loss and, if due, a line of metrics; and whether
        `train.keep_best` requires a checkpoint of this step."""
        train, improved = self.settings.train, False
        last = report.step == train.steps
        validates = validate is not None and (last or report.step % train.validate_every == 0)
        if validate is not None and validates:
            self.optimizer.collect()
            self.validation_loss = validate()
            improved = train.keep_best and self._note_best(report.step, validate.fingerprint)
        report = replace(report, validation_loss=self.validation_loss)
        if validates or last or report.step % train.log_every == 0:
            line = metrics_line(report, self.progress.window, frames_per_step=self.frames_per_step)
            if validates and self.validation_loss is not None:
                line["validation_loss"] = self.validation_loss
            self.progress = replace(self.progress, window={})
            report = replace(report, metrics=line)
        return report, improved

    def _note_best(self, step: int, clips: str) -> bool:
        """Record the validation loss if it is the lowest so far of these clips; returns whether it is."""
        loss, best = self.validation_loss, self.progress.best
        assert loss is not None
        if not loss < (best.loss if best is not None and best.clips == clips else math.inf):
            return False
        self.progress = replace(self.progress, best=Best(step, loss, clips))
        return True

    def _count(self, done: Done, step: int) -> None:
        """Count a step, and add it to the window unless it was skipped."""
        losses, norm = done.losses, done.grad_norm
        if not done.overflow and not math.isfinite(losses.loss + norm):
            raise LatteError(_not_finite(losses, norm, step))
        window = dict(self.progress.window)
        if not done.overflow:
            measured = {**losses._asdict(), "grad_norm": norm, "seconds": self.seconds, "steps": 1.0}
            for name, value in measured.items():
                window[name] = window.get(name, 0.0) + value
        scale = self.progress.loss_scale.after(overflow=done.overflow)
        self.progress = replace(self.progress, loss_scale=scale, window=window)


def _not_finite(losses: Losses, norm: float, step: int) -> str:
    return (
        f"train: the loss is {losses.loss:g} and the gradient norm {norm:g} at step {step}: stopped;"
        " the last checkpoint is from an earlier step. Try a smaller train.learning_rate or train.clip_norm"
    )
