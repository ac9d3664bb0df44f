"""The training loop: a generator of reports, used by the CLI, tests and bench."""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from mindspore import Tensor, mutable

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.runs import Best, checkpoint_at
from latte_cli.core.data.clips.batches import ClipSource, Sharing, batches
from latte_cli.core.diffusion.schedule import Schedule
from latte_cli.core.errors import LatteError
from latte_cli.core.machine.device import uses_sink_mode
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.parallel.collective import Collective
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.captioning import CaptionSampler
from latte_cli.core.training.inputs import StepInputs, draw_inputs, latents_of
from latte_cli.core.training.optimizer import average_decay, clip_factor, learning_rate
from latte_cli.core.training.report import TrainReport, metrics_line
from latte_cli.core.training.sharding import optimizer_of
from latte_cli.core.training.sinking import Feed, SunkStep
from latte_cli.core.training.state import (
    Progress,
    load_state,
    read_progress,
    save_companions,
    save_state,
    send_state,
    tensors_of,
)
from latte_cli.core.training.step import GradientStep, Losses, add_gradients, global_norm
from latte_cli.core.training.validation import Validation

log = logging.getLogger(__name__)

Pass = Callable[[float], tuple[Losses, tuple[Tensor, ...]]]  # maps loss scale to losses and scaled gradients


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
        device: str,
        schedule: Schedule,
        collective: Collective,
        progress: Progress,
        captions: CaptionSampler | None = None,
    ):
        self.settings = settings
        self.model = model
        self.device = device
        self.schedule = schedule
        self.collective = collective
        self.captions = captions
        train, data, world = settings.train, settings.data, collective.world
        self.optimizer = optimizer_of(model, train, collective)
        self.gradients = GradientStep(model)
        self.sharing = Sharing(train.batch_size, train.accumulation, world.rank, world.size)
        self.frames_per_step = self.sharing.global_batch * (data.num_frames + data.use_image_num)
        self.validation_loss: float | None = None
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
        inputs = partial(self._inputs, source, encode, self.progress)
        stream = inputs()

        def take_fed(scale: float) -> tuple[Losses, tuple[Tensor, ...]]:
            return self.gradients(next(stream), scale)

        take: Pass = take_fed
        if uses_sink_mode(train, self.device):
            passes = (train.steps - self.progress.step) * train.accumulation
            take = SunkStep(self.gradients, Feed(inputs, passes))
        try:
            while self.progress.step < train.steps:
                report, improved = self._logged(self.step(take), validate)
                # The caller writes the line of metrics before the next checkpoint is saved.
                yield report
                done = self.collective.anywhere(stopping()) or report.step == train.steps
                if done or improved or report.step % train.checkpoint_every == 0:
                    self.save()
                if train.preview_every and report.step % train.preview_every == 0:
                    self.optimizer.collect()
                    if preview:
                        preview(report.step)
                if done:
                    return
        finally:
            stream.close()

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

    def step(self, take: Pass) -> TrainReport:
        """Do one optimizer step on the next passes."""
        settings, step, scale = self.settings, self.progress.step, self.progress.loss_scale
        train = settings.train
        start = time.perf_counter()
        losses, gradients = self._accumulate(take)
        divisor = scale.value * train.accumulation
        norm = global_norm(gradients) / divisor
        overflow = scale.dynamic and math.isfinite(losses.loss) and not math.isfinite(norm)
        if not overflow and not math.isfinite(losses.loss + norm):
            raise LatteError(_not_finite(losses, norm, step + 1))
        rate = learning_rate(train, step)
        if not overflow:
            taken = step - scale.dropped
            self.optimizer.apply(
                gradients,
                taken,
                rate=rate,
                average=average_decay(train, taken),
                factor=clip_factor(train, step, norm=norm) / divisor,
            )
        seconds = time.perf_counter() - start
        self._advance({**losses._asdict(), "grad_norm": norm, "seconds": seconds}, overflow=overflow)
        return TrainReport(
            step=step + 1,
            steps=train.steps,
            losses=losses,
            grad_norm=norm,
            learning_rate=rate,
            loss_scale=self.progress.loss_scale,
            seconds=seconds,
            frames_per_second=self.frames_per_step / seconds,
        )

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

    def _accumulate(self, take: Pass) -> tuple[Losses, tuple[Tensor, ...]]:
        """Means over workers of the losses, and of the scaled gradients accumulated over a step's passes."""
        passes, total = [], None
        for _ in range(self.settings.train.accumulation):
            losses, gradients = take(self.progress.loss_scale.value)
            passes.append(losses)
            total = gradients if total is None else add_gradients(total, gradients)
        assert total is not None
        means = [sum(values) / len(passes) for values in zip(*passes, strict=True)]
        if self.collective.world.size > 1:
            means, total = list(self.collective.mean(means)), mutable(self.collective.average(total))
        return Losses(*means), total

    def _advance(self, measured: Mapping[str, float], *, overflow: bool) -> None:
        """Count a step, and add it to the window unless it was skipped."""
        window = dict(self.progress.window)
        if not overflow:
            for name, value in {**measured, "steps": 1.0}.items():
                window[name] = window.get(name, 0.0) + value
        self.progress = replace(
            self.progress,
            step=self.progress.step + 1,
            clips_taken=self.progress.clips_taken + self.sharing.global_batch,
            loss_scale=self.progress.loss_scale.after(overflow=overflow),
            window=window,
        )


def _not_finite(losses: Losses, norm: float, step: int) -> str:
    return (
        f"train: the loss is {losses.loss:g} and the gradient norm {norm:g} at step {step}: stopped;"
        " the last checkpoint is from an earlier step. Try a smaller train.learning_rate or train.clip_norm"
    )
