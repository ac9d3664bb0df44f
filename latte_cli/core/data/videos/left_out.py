"""Videos that give no clips: why, and one line on all of them."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from latte_cli.core.data.videos.transforms import needed_frames
from latte_cli.core.errors import LatteError, printable
from latte_cli.core.settings.schema import DataSettings

NAMED, REASONS = 3, 4  # so many names of one reason, so many reasons, are in the line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftOut:
    """A video that gives no clips, and why."""

    name: str
    reason: str
    frames: int | None = None
    """Of a video that can be read, but is too short."""


def too_short(name: str, frames: int, data: DataSettings) -> LeftOut | None:
    """That a video of so many frames gives no clip, if it gives none."""
    needed = needed_frames(data.num_frames, data.frame_stride, data.spacing)
    return LeftOut(name, f"{_frames(frames)}; a clip needs {needed}", frames) if frames < needed else None


def warn_of(left_out: Sequence[LeftOut], data: DataSettings | None = None) -> None:
    """Log one warning on all that are left out, and with --log-level info each by its name."""
    if left_out:
        log.warning("left out: %s", summary(left_out, data))
    for video in left_out:
        log.info("left out: %s: %s", printable(video.name), video.reason)


def summary(left_out: Sequence[LeftOut], data: DataSettings | None = None) -> str:
    """All of them in a line: how many, the first names of each reason, and the settings that mend it.

    Videos that are too short for clips of `data` have one reason together.
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
    """That no video gives a clip, and why, in a line."""
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
