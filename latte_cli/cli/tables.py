"""Results of `latte bench`, `calibrate` and `evaluate` on stdout, in plain text."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latte_cli.cli.progress import Line, show
from latte_cli.core.errors import one_line

if TYPE_CHECKING:
    from latte_cli.core.recipes.bench import BenchReport
    from latte_cli.core.recipes.calibrate import CalibrateReport
    from latte_cli.core.recipes.evaluate import EvaluateReport

TRAIN = (
    "Cards",
    "Recompute",
    "Dataset sink mode",
    "Embedding cache",
    "Batch",
    "Frames",
    "Step time",
    "Train imgs/s",
    "Peak memory",
    "Compile",
)
SAMPLE = ("Sampler", "Steps", "Guidance", "Frames", "Step time", "A video", "Peak memory", "Compile")
ENCODE = ("Image size", "Frames at once", "Chunk time", "Frames/s", "Peak memory", "Compile")


def bench_line(report: "BenchReport") -> Line:
    """Progress of the measurements."""
    return Line("measuring", report.done, report.total, report.doing)


def show_bench(found: Mapping[str, Any]) -> None:
    """Print the tables of a benchmark, the machine, and the comparison."""
    machine = found["machine"]
    gigabytes = machine["memory_bytes"] / 1e9
    show(
        f"{machine['processor']}, {machine['cores']} cores, {gigabytes:.0f} GB; {machine['device']};"
        f" MindSpore {machine['mindspore']}, {machine['kernels']}\n\n"
    )
    sharded = any(entry.get("shard") for entry in found["train"])
    for title, rows in (
        (
            (*TRAIN[:1], "Shard optimizer", *TRAIN[1:]) if sharded else TRAIN,
            [train_cells(entry, sharded=sharded) for entry in found["train"]],
        ),
        (ENCODE, [encode_cells(entry) for entry in found["encode"]]),
        (SAMPLE, [sample_cells(entry) for entry in found["sample"]]),
    ):
        if rows:
            show("".join(f"{line}\n" for line in table(title, rows)) + "\n")
    if cores := [entry["cores"] // entry["cards"] for entry in found["train"] if "cores" in entry]:
        show(f"each worker uses {cores[0]} {'core' if cores[0] == 1 else 'cores'}\n")
    if data := sorted({entry["data"] for entry in found["train"] if "data" in entry}):
        show(f"data: {'; '.join(data)}\n")
    if text := sorted({entry["text"] for entry in found["train"] + found["sample"] if "text" in entry}):
        show(f"text: {'; '.join(text)}\n")
    if "comparison" in found:
        show_comparison(found)


def show_comparison(found: Mapping[str, Any]) -> None:
    """Print other changes, then the ratios new / old, one entry per line."""
    for difference in found["differences"]:
        show(f"changed: {difference}\n")
    for entry in found["comparison"]:
        named = [
            f"{name} {_word(value)}"
            for name, value in entry.items()
            if name not in ("kind", "ratios") and value is not None
        ]
        ratios = [f"{name} x{value:.2f}" for name, value in entry["ratios"].items()]
        show(f"{entry['kind']} {', '.join(named)}: {', '.join(ratios)}\n")
    if not found["comparison"]:
        show("nothing measured in both\n")


def table(title: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table with aligned columns; an additional cell is a remark after the row."""
    widths = [max(len(row[place]) for row in (title, *rows)) for place in range(len(title))]
    for number, row in enumerate((title, *rows)):
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=False)]
        yield f"| {' | '.join(cells)} |{''.join(f' {remark}' for remark in row[len(title) :])}"
        if number == 0:
            yield f"|{'|'.join('-' * (width + 1) + ':' for width in widths)}|"


def train_cells(entry: Mapping[str, Any], *, sharded: bool = False) -> list[str]:
    """A row of training; sharded: of a table with a column for it."""
    asked = [
        str(entry["cards"]),
        *(_word(entry[name]) for name in (*(["shard"] if sharded else []), "recompute", "sink", "cache")),
        str(entry["batch"]),
        str(entry["frames"]),
    ]
    return asked + _measured(
        entry,
        lambda: [_spread(entry["step_seconds"]), f"{entry['images_per_second']:.1f}"],
    )


def encode_cells(entry: Mapping[str, Any]) -> list[str]:
    """A row of encoding."""
    asked = [str(entry.get(name, "")) for name in ("image_size", "chunk_frames")]
    return asked + _measured(
        entry, lambda: [_spread(entry["chunk_seconds"]), f"{entry['frames_per_second']:.1f}"]
    )


def sample_cells(entry: Mapping[str, Any]) -> list[str]:
    """A row of sampling."""
    asked = [str(entry.get(name, "")) for name in ("sampler", "steps", "guidance_scale", "frames")]
    if "full_steps" in entry:
        asked[1] = f"{entry['full_steps']} of {asked[1]}"
    if "guidance_every" in entry:
        asked[2] += f", 1 in {entry['guidance_every']}"
    return asked + _measured(
        entry,
        lambda: [
            _spread(entry["step_seconds"]),
            _seconds(entry["video_seconds"]) + (", latents" if entry["decode_seconds"] is None else ""),
        ],
    )


def _measured(entry: Mapping[str, Any], times: Any) -> list[str]:
    """Four cells of numbers, or the problem (as a remark, unless the device does not support the row)."""
    if problem := entry.get("problem"):
        short = len(problem) < 24
        return [problem if short else "failed", "", "", "", *([] if short else [problem])]
    return [*times(), f"{entry['peak_bytes'] / 1e9:.2f} GB", _seconds(entry["compile_seconds"])]


def _spread(spread: Mapping[str, float]) -> str:
    """Median and quartiles: 0.512 s (0.498-0.530)."""
    return f"{_seconds(spread['median'])} ({spread['low']:.3g}-{spread['high']:.3g})"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"


def _word(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def calibrate_line(report: "CalibrateReport") -> Line:
    """How many evaluations of the model are done."""
    text = f"clip {report.clip + 1} of {report.clips}"
    return Line("measuring stretches of reuse", report.done, report.total, text)


def show_calibration(report: "CalibrateReport", out: Path) -> None:
    """Each schedule with its error and that of even spacing, and where they are written."""
    title = ("full steps", "error", "evenly spaced", "found by", "steps computed in full")
    rows = [
        [
            str(len(one.full_steps)),
            f"{one.error:.4g}",
            f"{one.even_error:.4g}",
            one.way,
            " ".join(map(str, one.full_steps)),
        ]
        for one in report.found
    ]
    show("".join(f"{line}\n" for line in table(title, rows)))
    show(f"{one_line(out)}\n")


def evaluate_line(report: "EvaluateReport") -> Line:
    """Progress of the evaluation."""
    return Line(report.doing, report.done, report.total)


def show_evaluation(found: Mapping[str, Any]) -> None:
    """Print each result with its spread, remarks, and every choice of the protocol."""
    units = {"psnr": " dB, to the nearest real clip", "ssim": ", to the nearest real clip"}
    for metric in ("fvd", "psnr", "ssim"):
        if metric in found:
            show(f"{metric:<18}{_figure(found[metric])}{units.get(metric, '')}\n")
    for remark in found["remarks"]:
        show(f"{'note':<18}{remark}\n")
    show("\n")
    for name, value in found["protocol"].items():
        show(f"{name.replace('_', ' '):<18}{one_line(_listed(value))}\n")


def _figure(figure: Mapping[str, Any]) -> str:
    """Mean over the draws and their standard deviation: 123.456789 +- 1.23 (3 draws)."""
    value, spread, draws = figure["value"], figure["spread"], len(figure["draws"])
    shown = "infinite" if value is None else f"{value:.6f}"
    return shown + (f" +- {spread:.3g} ({draws} draws)" if spread is not None else "")


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else _word(value)
