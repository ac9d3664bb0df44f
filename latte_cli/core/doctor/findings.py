"""Findings of checks, and running checks in parallel and independently of each other."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from signal import Signals
from typing import Literal

Verdict = Literal["ok", "warning", "problem"]
SIDE_BY_SIDE = 4
REPORT_IT = "fix the other problems first; if this one remains, report it with the findings (--report FILE)"


@dataclass(frozen=True)
class Finding:
    """The result of a check; `fix` describes how to fix a problem or warning, if possible as a command."""

    check: str
    found: str
    verdict: Verdict = "ok"
    fix: str = ""


Check = Callable[[], Iterable[Finding]]


def run_checks(checks: Mapping[str, Check]) -> list[Finding]:
    """The findings of all checks, in order. A check that raises an error is a problem with its name."""

    def run(name: str, check: Check) -> list[Finding]:
        try:
            return list(check())
        except Exception as error:  # noqa: BLE001 (the other checks continue)
            return [Finding(name, f"the check failed: {_reason(error)}", "problem", REPORT_IT)]

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return [finding for findings in pool.map(run, checks, checks.values()) for finding in findings]


class ProbeError(Exception):
    """A probe's process failed, with a one-line reason."""


def probe(arguments: Iterable[str], *, seconds: float) -> str:
    """Run a Python process, for operations that may crash or hang, and return its stdout.

    Raises ProbeError if it fails or takes longer than `seconds`.
    """
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise ProbeError(f"no answer within {seconds:g} s") from None
    if done.returncode < 0:
        raise ProbeError(f"crashed ({Signals(-done.returncode).name})")
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ProbeError(lines[-1] if lines else f"exit code {done.returncode}")
    return done.stdout


def pip_install(*requirements: str) -> str:
    """The command that installs packages for this Python."""
    return shlex.join([sys.executable, "-m", "pip", "install", *requirements])


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
