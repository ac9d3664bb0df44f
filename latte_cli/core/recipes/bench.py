"""Measure training, encoding and sampling on this machine, each in a separate process."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latte_cli.core.bench.rows import Row, lack, to_json
from latte_cli.core.bench.sources import choose_source, lacks_vae
from latte_cli.core.bench.statistics import Benchmark, compare, differences
from latte_cli.core.bench.synthetic import TEXT
from latte_cli.core.errors import LatteError
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.room import check_folder
from latte_cli.core.sampling.calibration import run_setup
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.files import write_file
from latte_cli.core.storage.json_files import read_json

FORMAT = "latte bench 1"
WORKER = "latte_cli.core.bench.worker"
# The usual number of steps of each sampler; the experiment's sampler has its own.
USUAL_STEPS = {"ddpm": 250, "ddim": 50, "dpm++": 25}


@dataclass(frozen=True)
class BenchReport:
    """The next measurement, after `done` of `total`; at the end, all results."""

    done: int
    total: int
    doing: str
    found: Mapping[str, Any] | None = None
    """The contents of bench.json, with `comparison` and `differences` if there is an earlier benchmark."""


def run(
    settings: Settings,
    rows: Sequence[Row],
    *,
    rows_alone: bool = False,
    out: Path | None = None,
    against: Path | None = None,
) -> Iterator[BenchReport]:
    """Measure every row and, unless `rows_alone`, encoding and every sampler; yields before each.

    out: JSON file for the results, with a chart next to it as .png. against: an earlier `out`. An entry that
    cannot be measured states the reason and does not end the run. Raises LatteError for errors a user can
    fix.
    """
    old = None if against is None else read(against)
    jobs: list[tuple[str, Any]] = [("train", row) for row in rows]
    if not rows_alone:
        jobs += [("encode", None), *(("sample", name) for name in USUAL_STEPS)]
    total = len(jobs) + 1
    yield BenchReport(0, total, "machine")
    found: dict[str, Any] = {
        "format": FORMAT,
        "machine": _measured("machine", settings),
        "experiment": settings.model_dump(mode="json"),
        "train": [],
        "encode": [],
        "sample": [],
    }
    if problem := found["machine"].get("problem"):
        raise LatteError(problem)
    device = found["machine"]["device"]
    share = _cores_a_card(rows) if device == "cpu" else None
    for done, (kind, subject) in enumerate(jobs, 1):
        yield BenchReport(done, total, f"{kind} {subject or ''}".strip())
        entry = _row(subject, settings, device, share) if kind == "train" else _entry(kind, subject, settings)
        found[kind].append(entry)
    if old is not None:
        found |= {"comparison": compare(found, old), "differences": differences(found, old)}
    if out is not None:
        write_file(out, json.dumps(found, indent=1) + "\n")
        _draw(found, out.with_suffix(".png"))
    yield BenchReport(total, total, "done", found)


def plan(
    settings: Settings, rows: Sequence[Row], *, out: Path | None = None, against: Path | None = None
) -> Plan:
    """The plan of the measurements."""
    result = Plan()
    for row in rows:
        result.add("row", str(row))
    result.add("steps", f"{settings.bench.warmup_steps} to warm up, {settings.bench.steps} counted")
    texts = [choose_source(settings, cached=row.cache).text for row in rows]
    result.add("data", "; ".join(dict.fromkeys(texts)))
    if settings.model.condition == "text":
        result.add("text", TEXT)
    reason = lacks_vae(settings)
    result.add("autoencoder", reason or str(settings.vae.weights))
    if reason is not None and any(not row.cache for row in rows):
        result.problems.append(f"{reason}, or rows with cache=on")
    result.require("--compare", against)
    if out is not None:
        folder = out.parent
        result.check(lambda: check_folder("--out", folder))
    return result


def read(path: Path) -> dict[str, Any]:
    """Read an earlier benchmark. Raises LatteError if the file is not one."""
    try:
        read_json(path, Benchmark, expected="a file of latte bench --out")
        return read_json(path, dict[str, Any])
    except LatteError as error:
        raise LatteError(f"--compare: {error}") from error


def _cores_a_card(rows: Sequence[Row]) -> int | None:
    """Cores per worker on a CPU, the same in every row; None if no row has several workers."""
    most = max((row.cards for row in rows), default=1)
    if most == 1 or not hasattr(os, "sched_getaffinity"):
        return None
    return max(1, len(os.sched_getaffinity(0)) // most)


def _row(row: Row, settings: Settings, device: str, share: int | None) -> dict[str, Any]:
    """A row of the table with its measurement, or the problem; `share`: cores per worker."""
    asked: dict[str, Any] = to_json(row)
    if share is not None:
        asked["cores"] = share * row.cards
    if problem := lack(row, device):
        return {**asked, "problem": problem}
    return {**asked, **_measured("train", settings, row=to_json(row), cores=asked.get("cores"))}


def _entry(kind: str, subject: Any, settings: Settings) -> dict[str, Any]:
    """The measurement of encoding, or of sampling with sampler `subject`, or the problem."""
    no_vae = lacks_vae(settings)
    if kind == "encode":
        return {"problem": no_vae} if no_vae else _measured(kind, settings)
    values = settings.model_dump()
    if subject != settings.sample.sampler:
        steps = min(USUAL_STEPS[subject], settings.diffusion.num_timesteps)
        values["sample"] |= {"sampler": subject, "steps": steps, "respacing": None}
        if (full := settings.sample.full_steps) is not None:  # the same share of these steps
            own = run_setup(settings, settings.sample).steps
            values["sample"]["full_steps"] = max(1, round(full * steps / own))
    measured = _measured(kind, Settings.model_validate(values), decodes=no_vae is None)
    return {"sampler": subject, **measured}


def _measured(kind: str, settings: Settings, **details: Any) -> dict[str, Any]:
    """The result of a worker's job, or its `problem`."""
    with tempfile.TemporaryDirectory(prefix="latte-bench-") as name:
        folder = Path(name)
        job, result, log = folder / "job.json", folder / "result.json", folder / "log"
        job.write_text(json.dumps({"kind": kind, "settings": settings.model_dump(mode="json"), **details}))
        command = [sys.executable, "-m", WORKER, str(job), str(result), str(os.getpid())]
        # In our working directory, for relative paths; failed compilations leave files there.
        with log.open("wb") as file:
            done = subprocess.run(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, check=False)
        if result.exists():
            return read_json(result, dict[str, Any])
        return {"problem": _reason(done.returncode, log.read_text("utf-8", "replace"))}


def _reason(code: int, log: str) -> str:
    """Why a worker ended without a result."""
    if code == -signal.SIGKILL:
        return "killed, for example because memory ran out"
    lines = [line for line in log.splitlines() if line.strip()]
    return f"ended with code {code}: {lines[-1] if lines else 'no message'}"


def _draw(found: Mapping[str, Any], target: Path) -> None:
    from latte_cli.core.training.charts import bench_chart

    bench_chart(found, target)
