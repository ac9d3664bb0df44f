"""`latte doctor`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latte_cli.cli import options
from latte_cli.cli.options import output_option, run_option
from latte_cli.cli.running import set_logging
from latte_cli.core.errors import one_line

if TYPE_CHECKING:
    from latte_cli.core.doctor.findings import Finding

EXAMPLES = (
    ("Check this machine and the installation", "latte doctor"),
    ("And whether an experiment can be trained on it", "latte doctor -c sky.yaml"),
    ("Write the findings to a file for a bug report", "latte doctor --report doctor.json"),
    ("Test what a card computes, in some minutes", "latte doctor --device ascend --self-test"),
)

Online = Annotated[
    bool,
    run_option("--online", help="Also contact the hub. Otherwise no network is used."),
]
SelfTest = Annotated[
    bool,
    run_option(
        "--self-test",
        help="Compute small models on the device and compare them with known results: some minutes. Writes"
        " self-test.json and self-test.txt, or --report FILE, to attach to an issue.",
    ),
]
Report = Annotated[Path | None, output_option("--report", metavar="FILE", help="Write the findings as JSON.")]
ExperimentFile = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        autocompletion=options.experiment_names,
        help="Experiment whose needs to check. Default: latte.yaml in the working directory, else none.",
    ),
]


def doctor(
    online: Online = False,
    self_test: SelfTest = False,
    report: Report = None,
    config: ExperimentFile = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    log_level: options.LogLevel = "warning",
) -> None:
    """Check the machine, the installation and what an experiment needs."""
    set_logging(log_level)
    from latte_cli.core.doctor.examination import examine, write_findings

    overrides = []
    if assignments:
        from latte_cli.core.experiment.loading import parse_override

        overrides = [parse_override(text) for text in assignments]
    findings = examine(config, overrides, device=device, online=online)
    typer.echo(_table(findings), nl=False)
    if self_test:
        _self_test(findings, device, report or Path("self-test.json"))
    elif report is not None:
        write_findings(findings, report)
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)


def _self_test(findings: "Sequence[Finding]", device: str | None, target: Path) -> None:
    """Test the device and write the report. Exits with code 1 if a test fails."""
    from latte_cli.core.doctor.self_test.campaign import self_test
    from latte_cli.core.doctor.self_test.report import line_of, summary, write_report

    used, tests = self_test(device or "auto")
    typer.echo("")
    rows = []
    for row in tests:
        typer.echo(line_of(row))
        rows.append(row)
    text = write_report(rows, findings, target, device=used)
    typer.echo(f"\n{summary(rows)}\n{target}, {text}: attach them to an issue")
    if any(row.verdict == "failed" for row in rows):
        raise typer.Exit(1)


def _table(findings: "Sequence[Finding]") -> str:
    """One line per finding, with the fix below problems and warnings, and their count."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.check:<13} {finding.verdict:<8} {one_line(finding.found)}")
        if finding.verdict != "ok":
            lines.append(f"{'':<13} {'fix':<8} {one_line(finding.fix)}")
    count = Counter(finding.verdict for finding in findings)
    lines.append(f"\n{_counted(count['problem'], 'problem')}, {_counted(count['warning'], 'warning')}")
    return "\n".join(lines) + "\n"


def _counted(number: int, name: str) -> str:
    return f"1 {name}" if number == 1 else f"{number or 'no'} {name}s"
