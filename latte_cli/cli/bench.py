"""`latte bench`."""

from pathlib import Path
from typing import Annotated

from latte_cli.cli import options
from latte_cli.cli.options import output_option, parallel_option, run_option
from latte_cli.cli.running import load, stop_at_plan

EXAMPLES = (
    ("Measure the usual rows of an experiment", "latte bench -c sky.yaml --out bench.json"),
    ("Measure one row: cached latents, two workers", "latte bench --row cache=on --parallel 2"),
    ("Compare with an earlier result", "latte bench --out after.json --compare before.json"),
)

Rows = Annotated[
    list[str] | None,
    run_option(
        "--row",
        metavar="SPEC",
        help="A row of the table, such as recompute=off,sink=off,cache=on,batch=4,frames=16. Other keys come"
        " from the experiment. Repeatable. Default: the usual rows, encoding and sampling.",
    ),
]
Cards = Annotated[
    list[int] | None,
    parallel_option("--parallel", metavar="N", min=1, help="Number of workers of each row. Repeatable."),
]
BenchSteps = Annotated[
    int | None, run_option("--steps", metavar="N", help="Measured steps per row (bench.steps).")
]
BenchOut = Annotated[
    Path | None,
    output_option(
        "--out", metavar="FILE", help="Also write the result as JSON, and a chart next to it as .png."
    ),
]
Against = Annotated[
    Path | None,
    output_option("--compare", metavar="FILE", help="An earlier --out file to compare with."),
]


def bench(
    rows: Rows = None,
    parallel: Cards = None,
    steps: BenchSteps = None,
    out: BenchOut = None,
    against: Against = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Measure training, encoding and sampling."""
    settings = load("bench", config, assignments, {"bench.steps": steps, "device": device}, log_level)
    from latte_cli.cli.progress import follow
    from latte_cli.cli.tables import bench_line, show_bench
    from latte_cli.core.bench.rows import parse_rows
    from latte_cli.core.recipes import bench as recipe

    parsed = parse_rows(rows or [], settings, cards=parallel or [])
    if stop_at_plan(settings, recipe.plan(settings, parsed, out=out, against=against), dry_run=dry_run):
        return
    reports = recipe.run(settings, parsed, rows_alone=bool(rows), out=out, against=against)
    *_, last = follow(reports, bench_line)
    show_bench(last.found or {})
