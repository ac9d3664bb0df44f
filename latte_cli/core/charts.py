"""Pictures of numbers."""

import json
from pathlib import Path

from latte_cli.core.files import whole_file


def loss_curve(metrics: Path, target: Path) -> None:
    """Draw the losses of a metrics.jsonl over its steps as a PNG."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    steps = [line["step"] for line in lines]
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name in ("loss", "mse"):
        axes.plot(steps, [line[name] for line in lines], label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=str(metrics.parent))
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    with whole_file(target) as partial:
        figure.savefig(partial, format="png")
