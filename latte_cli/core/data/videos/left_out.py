"""Videos that are skipped, and a one-line summary of the reasons."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from latte_cli.core.data.videos.transforms import needed_frames
from latte_cli.core.errors import LatteError, printable
from latte_cli.core.settings.schema import DataSettings

NAMED, REASONS = 3, 4  # names per reason, and reasons, in the summary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftOut:
    """A skipped video and the reason."""

    name: str
    reason: str
    frames: int | None = None
    """Number of frames, for a readable video that is too short."""


def too_short(name: str, frames: int, data: DataSettings) -> LeftOut | None:
    """A LeftOut if a video of this length is too short for a clip, else None."""
    needed = needed_frames(data.num_frames, data.frame_stride, data.spacing)
    return LeftOut(name, f"{_frames(frames)}; a clip needs {needed}", frames) if frames < needed else None


def warn_of(left_out: Sequence[LeftOut], data: DataSettings | None = None) -> None:
    """Log one warning about all skipped videos, and at level info one line for each."""
    if left_out:
        log.warning("left out: %s", summary(left_out, data))
    for video in left_out:
        log.info("left out: %s: %s", printable(video.name), video.reason)


def summary(left_out: Sequence[LeftOut], data: DataSettings | None = None) -> str:
    """A one-line summary: the number, the first names per reason, and the settings that would help.

    Videos too short for clips of `data` share one reason.
    """
    reasons: dict[str, list[LeftOut]] = {}
    for video in left_out:
        reasons.setdefault("" if video.frames is not None else video.reason, []).append(video)
    parts = []
    for reason, videos in list(reasons.items())[:REASONS]:
        names = [printable(video.name) for video in videos[:NAMED]]
        more = f" and {len(videos) - NAMED} more" if len(videos) > NAMED else ""
        parts.append(f"{', '.join(names)}{more}: {reason or _shortness(videos, data or DataSettings())}")
    if len(reasons) > REASONS:
        parts.append(f"{len(reasons) - REASONS} more reasons: --log-level info")
    count = "1 video" if len(left_out) == 1 else f"{len(left_out):,} videos"
    return f"{count}: {'; '.join(parts)}"


def nothing_left(root: str, data: DataSettings, left_out: Sequence[LeftOut]) -> LatteError:
    """The error that no video can be used, with the reason."""
    short = {video.name: video.frames for video in left_out if video.frames is not None}
    if not short:
        found = f"none of its {len(left_out)} videos can be read; the first, {left_out[0].name}"
        return LatteError(f"data.root: {root}: {found}: {left_out[0].reason}")
    longest = max(short, key=lambda name: short[name])
    needed = needed_frames(data.num_frames, data.frame_stride, data.spacing)
    stride = f" x frame_stride {data.frame_stride}" if data.spacing == "stride" else ""
    return LatteError(
        f"data.num_frames: a clip is longer than every video: num_frames {data.num_frames}{stride} needs"
        f" {needed} frames; the longest, {longest}, has {short[longest]}"
    )


def _shortness(videos: Iterable[LeftOut], data: DataSettings) -> str:
    counts = [video.frames or 0 for video in videos]
    least, most = min(counts), max(counts)
    needed = needed_frames(data.num_frames, data.frame_stride, data.spacing)
    lower = "data.frame_stride or data.num_frames" if data.spacing == "stride" else "data.num_frames"
    span = _frames(most) if least == most else f"{least} to {_frames(most)}"
    return f"{span}; a clip needs {needed} (lower {lower})"


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
