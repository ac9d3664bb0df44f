"""Charts."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latte_cli.core.errors import one_line
from latte_cli.core.storage.files import atomic_file
from latte_cli.core.training.metrics import metrics_journal

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def loss_curve(metrics: Path, target: Path) -> None:
    """Draw the losses of a metrics.jsonl over its steps as a PNG, those of validation as points."""
    from matplotlib.figure import Figure

    lines = list(metrics_journal(metrics).read())
    steps = [line.step for line in lines]
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name in ("loss", "mse"):
        values = [getattr(line, name) for line in lines]
        axes.plot(steps, values, marker="o" if len(lines) == 1 else "", label=name)
    if validated := {line.step: line.validation_loss for line in lines if line.validation_loss is not None}:
        axes.plot(list(validated), list(validated.values()), "o-", label="validation loss")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.set_title(one_line(metrics.parent), parse_math=False)  # a name may contain dollar signs
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    _save(figure, target)


def bench_chart(found: Mapping[str, Any], target: Path) -> None:
    """Plot results of `latte bench` as a PNG: training by row, sampling by sampler; skips failed entries."""
    from matplotlib.figure import Figure

    rows = [entry for entry in found["train"] if "problem" not in entry]
    samplers = [entry for entry in found["sample"] if "problem" not in entry]
    figure = Figure(figsize=(10, 2.4 + 0.45 * (len(rows) + len(samplers))), dpi=100, layout="constrained")
    upper, lower = figure.subplots(2, height_ratios=[len(rows) + 1, len(samplers) + 1])
    for place, row in enumerate(rows):
        images = row["images_per_second"] * row["step_seconds"]["median"]
        low, high = (images / row["step_seconds"][name] for name in ("high", "low"))
        value = row["images_per_second"]
        upper.barh(place, value, xerr=[[value - low], [high - value]], color="tab:blue", capsize=3)
    switches = ("recompute", "sink", "cache")
    upper.set_yticks(
        range(len(rows)),
        [
            f"{row['cards']} x {row['batch']} clips of {row['frames']}"
            + "".join(f", {name}" for name in switches if row[name])
            for row in rows
        ],
    )
    lower.barh(range(len(samplers)), [entry["video_seconds"] for entry in samplers], color="tab:orange")
    lower.set_yticks(
        range(len(samplers)), [f"{entry['sampler']}, {entry['steps']} steps" for entry in samplers]
    )
    upper.set(xlabel="training: images per second (with quartiles)", title=found["machine"]["processor"])
    lower.set(xlabel="sampling: seconds per video")
    for axes in (upper, lower):
        axes.invert_yaxis()
        axes.grid(visible=True, axis="x", alpha=0.3)
    if not samplers:
        lower.remove()
    _save(figure, target)


def _save(figure: "Figure", target: Path) -> None:
    """Write a chart as a PNG; letters that matplotlib's font lacks, such as emoji, become boxes."""
    with atomic_file(target) as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(partial, format="png")
