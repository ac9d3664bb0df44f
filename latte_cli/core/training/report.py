"""Reports of training steps, and lines of metrics over several steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from latte_cli.core.training.precision import LossScale
from latte_cli.core.training.step import Losses

SUMMED = ("loss", "mse", "vb", "grad_norm", "seconds")  # of the steps since the last line of metrics


@dataclass(frozen=True)
class TrainReport:
    """One optimizer step, done. `metrics` is a line of metrics.jsonl when this step ended one."""

    step: int
    """Steps done, this one included."""
    steps: int
    losses: Losses
    grad_norm: float
    learning_rate: float
    loss_scale: LossScale
    seconds: float
    frames_per_second: float
    validation_loss: float | None = None
    """The latest one."""
    metrics: Mapping[str, float] | None = None


def metrics_line(
    report: TrainReport, window: Mapping[str, float], *, frames_per_step: int
) -> dict[str, float]:
    """A line of metrics: means over the steps whose sums are in `window`, and where the last one ended."""
    means = {name: window.get(name, math.nan) / window.get("steps", 1.0) for name in SUMMED}
    return {
        "step": report.step,
        **{name: means[name] for name in SUMMED[:-1]},
        "lr": report.learning_rate,
        "loss_scale": report.loss_scale.value,
        "step_seconds": means["seconds"],
        "frames_per_second": frames_per_step / means["seconds"],
    }
