"""The table of a self-test and the files to attach to an issue."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latte_cli.core.bench.machine import machine
from latte_cli.core.doctor.findings import Finding
from latte_cli.core.doctor.self_test.rows import Row
from latte_cli.core.errors import one_line
from latte_cli.core.storage.files import write_file

FORMAT = "latte self-test 1"
NAME_WIDTH = 26


def line_of(row: Row) -> str:
    """A row as a line of the table: its name, verdict, seconds, and error with what is allowed, or a text."""
    numbers = ""
    if row.error is not None and row.allowed is not None:
        numbers = f"error {row.error:.1e}, allowed {row.allowed:.1e}"
    words = ", ".join(part for part in (numbers, one_line(row.found)) if part)
    seconds = f"{row.seconds:.1f} s" if row.seconds else ""
    return f"{row.name:<{NAME_WIDTH}} {row.verdict:<8} {seconds:>8}  {words}".rstrip()


def summary(rows: Sequence[Row]) -> str:
    """How many tests passed, failed, and could not be done."""
    count = Counter(row.verdict for row in rows)
    return f"{count['ok']} ok, {count['failed']} failed, {count['not here']} not on this machine"


def write_report(rows: Sequence[Row], findings: Sequence[Finding], target: Path, *, device: str) -> Path:
    """Write everything as JSON, and as text next to it; returns the path of the text.

    Raises LatteError if a file cannot be written.
    """
    described: dict[str, Any] = {"device": device, **machine()}
    content = {
        "format": FORMAT,
        "machine": described,
        "findings": [asdict(finding) for finding in findings],
        "rows": [asdict(row) for row in rows],
    }
    write_file(target, json.dumps(content, indent=1) + "\n")
    lines = [f"{name}: {value}" for name, value in described.items()]
    lines += ["", *(f"{one.check}: {one.verdict}: {one.found}" for one in findings)]
    lines += ["", *map(line_of, rows), "", summary(rows)]
    text = target.with_suffix(".txt")
    write_file(text, "\n".join(lines) + "\n")
    return text
