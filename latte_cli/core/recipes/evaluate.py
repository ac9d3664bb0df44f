"""Evaluate generated clips: FVD against real clips, PSNR and SSIM to the nearest of them."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latte_cli import __version__
from latte_cli.core.errors import LatteError
from latte_cli.core.evaluate.clips import ClipSet, Place, draw_clips, open_clips
from latte_cli.core.evaluate.features import Features, features_folder
from latte_cli.core.evaluate.frames import common_size
from latte_cli.core.evaluate.frechet import frechet_distance
from latte_cli.core.evaluate.nearest import likenesses
from latte_cli.core.evaluate.pixels import WINDOW
from latte_cli.core.evaluate.protocol import Protocol, described
from latte_cli.core.models.i3d.layers import IMAGE_SIZE, MIN_FRAMES, NUM_CLASSES, clip_flops
from latte_cli.core.models.i3d.weights import HOW_TO_GET, read_i3d
from latte_cli.core.parallel.commands import Cluster
from latte_cli.core.parallel.launch import launch, same_command
from latte_cli.core.parallel.world import FAILURE, World
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.timing import FEATURES, add_time
from latte_cli.core.report.figures import EVALUATION
from latte_cli.core.report.page import RunReport
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.files import new_folder, remove_folder, write_file
from latte_cli.core.storage.hub import is_name, name_of

LOGS = "logs"  # of workers, next to the features; kept if a worker fails


@dataclass(frozen=True)
class EvalJob:
    """The clips to compare, and the protocol."""

    real: Path
    generated: Path
    protocol: Protocol
    i3d: Path | None = None
    device: str = "auto"


@dataclass(frozen=True)
class EvaluateReport:
    """Progress; the last one has `found`, the results and the protocol as written by --report."""

    doing: str
    done: int
    total: int
    found: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Draw:
    real: list[Place]
    generated: list[Place]


def check(job: EvalJob) -> None:
    """Raise LatteError for invalid options, before anything is read."""
    protocol = job.protocol
    if "fvd" not in protocol.metrics:
        return
    if job.i3d is None:
        raise LatteError(f"--i3d: not given, expected the weights of FVD's network: {HOW_TO_GET}")
    if protocol.num_frames < MIN_FRAMES:
        raise LatteError(
            f"--num-frames: found {protocol.num_frames}, expected {MIN_FRAMES} or more, as required by I3D"
        )
    if not is_name(job.i3d):  # not fetched yet
        read_i3d(job.i3d)


def plan(job: EvalJob, *, made: int | None = None, workers: int = 1) -> Plan:
    """The plan. made: number of generated clips that will be sampled."""
    found, protocol = Plan(), job.protocol
    found.check(lambda: check(job))
    counts = []
    for flag, path, needed in _sides(job):
        if made is not None and flag == "--generated":
            counts.append(made)
            found.add("generated", f"{made} clips, sampled first, to {path}")
            continue
        try:
            clips = open_clips(flag, path, needed=needed)
            counts.append(len(clips.items))
            left_out = f", {clips.left_out} left out" if clips.left_out else ""
            found.add(flag.removeprefix("--"), f"{path}: {len(clips.items)} videos{left_out}")
        except LatteError as error:
            found.problems.append(str(error))
            counts.append(0)
    number = protocol.clips or counts[1]
    if counts[1] and protocol.clips is not None and counts[1] < protocol.clips:
        found.problems.append(_too_few(job, counts[1]))
    found.add("metrics", ", ".join(protocol.metrics))
    found.add(
        "protocol", f"{protocol.name}: {number} clips of {protocol.num_frames} frames, {protocol.draws} draws"
    )
    if "fvd" in protocol.metrics:
        clips_at_most = (protocol.draws + 1) * number
        work = clip_flops(protocol.num_frames) // workers
        add_time(found, clips_at_most, work, "clip", share=FEATURES)
    return found


def run(job: EvalJob, *, report: Path | None = None, workers: int = 1) -> Iterator[EvaluateReport]:
    """Measure, yielding the progress; the last report has the results, also written to `report` as JSON.

    workers: processes that share the computation of features. Raises LatteError for errors a user can fix,
    and SystemExit with the workers' exit code if they were stopped.
    """
    check(job)
    if report is not None:
        with new_folder(report.absolute().parent):  # fail now, not after hours
            pass
    sets, draws, size = _prepared(job)
    figures: dict[str, list[float]] = {metric: [] for metric in job.protocol.metrics}
    about: dict[str, Any] = {}
    if "fvd" in figures:
        features = _features(job, size)
        if workers > 1:
            logs = features_folder() / f"{LOGS}-{os.getpid()}"
            code = launch(same_command(), Cluster(workers), log_dir=logs, collective=False)
            if code:
                raise SystemExit(code)
            remove_folder(logs)
        yield from _measure_fvd(draws, features, figures["fvd"])
        about = {
            "network": f"I3D's {NUM_CLASSES} logits, {IMAGE_SIZE} pixels, from -1 to 1",
            "i3d": name_of(str(job.i3d)),
        }
        about["i3d_sha256"] = features.sha256
    if {"psnr", "ssim"} & figures.keys():
        yield from _measure_likeness(job, draws, size, figures)
    found = _summary(job, sets, draws, size=size, figures=figures)
    found["protocol"] |= about
    if report is not None:
        write_file(report, json.dumps(found, indent=2, allow_nan=False) + "\n")
    yield EvaluateReport("done", 1, 1, found)


def note_figures(settings: Settings, found: dict[str, Any]) -> None:
    """Write the results of a run to its folder and its report. Raises LatteError if it cannot be written."""
    write_file(settings.run_dir / EVALUATION, json.dumps(found, indent=2, allow_nan=False) + "\n")
    RunReport(settings).update()


def run_share(job: EvalJob, world: World) -> Iterator[EvaluateReport]:
    """Compute one worker's share of the features and cache them for `run`.

    Raises LatteError under another launcher, where nothing would merge the shares.
    """
    if FAILURE not in os.environ:
        raise LatteError(f"{world.launcher}: evaluate starts its workers itself: use --parallel {world.size}")
    _, draws, size = _prepared(job)
    features = _features(job, size)
    shares = [
        (generated, places[world.rank :: world.size])
        for generated, places in (
            (True, _all(d.generated for d in draws)),
            (False, _all(d.real for d in draws)),
        )
    ]
    total, done = sum(len(places) for _, places in shares), 0
    for generated, places in shares:
        for _ in features.of(places, generated=generated):
            done += 1
            yield EvaluateReport("computing features", done, total)


def _sides(job: EvalJob) -> list[tuple[str, Path, int]]:
    """Flag, path and minimum frames per video, for each set."""
    protocol = job.protocol
    span = (protocol.num_frames - 1) * protocol.real_stride + 1
    return [("--real", job.real, span), ("--generated", job.generated, protocol.num_frames)]


def _prepared(job: EvalJob) -> tuple[list[ClipSet], list[_Draw], int]:
    """Both sets, the clips of every draw, and the frame size. Raises LatteError like `run`."""
    protocol = job.protocol
    sets = [open_clips(flag, path, needed=needed) for flag, path, needed in _sides(job)]
    if protocol.clips is not None and len(sets[1].items) < protocol.clips:
        raise LatteError(_too_few(job, len(sets[1].items)))
    clips, size = protocol.clips or len(sets[1].items), common_size(sets[1], protocol)
    if "fvd" in protocol.metrics and clips < 2:
        raise LatteError(f"--generated: {job.generated}: found one clip, FVD needs two or more")
    if "ssim" in protocol.metrics and size < WINDOW:
        raise LatteError(
            f"--generated: {job.generated}: found frames of {size} pixels, SSIM needs {WINDOW} or more"
        )
    draws = []
    for number in range(protocol.draws):
        real, generated = (
            draw_clips(
                side,
                clips,
                num_frames=protocol.num_frames,
                stride=stride,
                random=random,
                seed=(protocol.seed, number, which),
            )
            for which, (side, stride, random) in enumerate(
                ((sets[0], protocol.real_stride, True), (sets[1], 1, False))
            )
        )
        draws.append(_Draw(real, generated))
    return sets, draws, size


def _too_few(job: EvalJob, found: int) -> str:
    expected = job.protocol.clips
    return f"--generated: {job.generated}: found {found} clips, expected {expected} (--clips)"


def _features(job: EvalJob, size: int) -> Features:
    assert job.i3d is not None
    return Features(job.i3d, job.protocol, size, device=job.device)


def _all(lists: "Iterator[list[Place]]") -> list[Place]:
    """The distinct places of several lists."""
    return list(dict.fromkeys(place for places in lists for place in places))


def _measure_fvd(draws: Sequence[_Draw], features: Features, values: list[float]) -> Iterator[EvaluateReport]:
    total, done = sum(len(d.real) + len(d.generated) for d in draws), 0
    for one in draws:
        rows: list[list[Any]] = [[], []]
        for side, places in enumerate((one.generated, one.real)):
            for logits in features.of(places, generated=side == 0):
                rows[side].append(logits)
                done += 1
                yield EvaluateReport("computing features", done, total)
        values.append(frechet_distance(np.stack(rows[1]), np.stack(rows[0])))


def _measure_likeness(
    job: EvalJob, draws: Sequence[_Draw], size: int, figures: dict[str, list[float]]
) -> Iterator[EvaluateReport]:
    for number, one in enumerate(draws):
        for step in likenesses(one.generated, one.real, size, job.protocol):
            done, total = number * step.total + step.done, len(draws) * step.total
            yield EvaluateReport("comparing clips", done, total)
            if step.found and "psnr" in figures:
                figures["psnr"].append(float(np.mean([likeness.psnr for likeness in step.found])))
            if step.found and "ssim" in figures:
                figures["ssim"].append(float(np.mean([likeness.ssim for likeness in step.found])))


def _summary(
    job: EvalJob, sets: Sequence[ClipSet], draws: list[_Draw], *, size: int, figures: dict[str, list[float]]
) -> dict[str, Any]:
    """The results with their spread, remarks, and every choice of the protocol."""
    protocol = job.protocol
    choices = described(protocol) | {
        "clips": {"real": len(draws[0].real), "generated": len(draws[0].generated)},
        "videos": {"real": len(sets[0].items), "generated": len(sets[1].items)},
        "left_out": {"real": sets[0].left_out, "generated": sets[1].left_out},
        "size": size,
        "size_from": "the first generated clip" if protocol.size is None else "the settings",
        "nearest": "the real clip of the draw with the smallest squared pixel distance",
        "real": str(job.real),
        "generated": str(job.generated),
        "latte": __version__,
    }
    found: dict[str, Any] = {metric: _spread(values) for metric, values in figures.items()}
    return found | {"remarks": list(_remarks(draws, figures)), "protocol": choices}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation over the draws; null if a clip equals a real one (infinite PSNR)."""
    finite = all(math.isfinite(value) for value in values)
    return {
        "value": float(np.mean(values)) if finite else None,
        "spread": float(np.std(values, ddof=1)) if finite and len(values) > 1 else None,
        "draws": [value if math.isfinite(value) else None for value in values],
    }


def _remarks(draws: Sequence[_Draw], figures: dict[str, list[float]]) -> Iterator[str]:
    """Remarks on results that could be misinterpreted."""
    fewest = min(min(len(one.real), len(one.generated)) for one in draws)
    if "fvd" in figures and fewest <= NUM_CLASSES:
        yield (
            f"fvd: {fewest} clips are few for {NUM_CLASSES} dimensions: the value is biased upwards; compare"
            " it only with values of the same number of clips"
        )
    if len(draws) > 1 and all(one == draws[0] for one in draws):
        yield "spread: all draws use the same clips, since there are no others"
    if any(not math.isfinite(value) for values in figures.values() for value in values):
        yield "psnr: infinite, since a generated clip equals a real one"
