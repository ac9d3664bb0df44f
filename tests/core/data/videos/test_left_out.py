"""The message about videos without clips."""

import logging

import pytest

from latte_cli.core.data.videos.left_out import LeftOut, summary, too_short, warn_of
from latte_cli.core.settings.schema import DataSettings

DATA = DataSettings(num_frames=12, frame_stride=2)


def short(*frames: int) -> list[LeftOut]:
    return [found for n, count in enumerate(frames) if (found := too_short(f"{n}.mp4", count, DATA))]


def test_a_video_one_frame_short_of_a_clip_is_left_out() -> None:
    assert too_short("a", 25, DATA) is None
    assert too_short("a", 24, DATA) == LeftOut("a", "24 frames; a clip needs 25", 24)


def test_many_short_videos_give_one_line_with_names_and_the_fix() -> None:
    mend = "a clip needs 25 (lower data.frame_stride or data.num_frames)"
    assert summary(short(1), DATA) == f"1 video: 0.mp4: 1 frame; {mend}"
    assert summary(short(*9 * [1]), DATA) == f"9 videos: 0.mp4, 1.mp4, 2.mp4 and 6 more: 1 frame; {mend}"
    assert summary(short(3, 24), DATA) == f"2 videos: 0.mp4, 1.mp4: 3 to 24 frames; {mend}"


def test_an_unused_stride_is_not_suggested() -> None:
    data = DataSettings(num_frames=12, frame_stride=2, spacing="linspace")
    assert summary([LeftOut("a", "", 4)], data).endswith("4 frames; a clip needs 12 (lower data.num_frames)")


def test_each_reason_lists_its_videos_and_many_reasons_are_shortened(
    caplog: pytest.LogCaptureFixture,
) -> None:
    others = [LeftOut(f"{n}.gif", f"reason {n}") for n in range(6)]
    with caplog.at_level(logging.INFO):
        warn_of(others, DATA)
    line, *each = caplog.messages
    assert line == (
        "left out: 6 videos: 0.gif: reason 0; 1.gif: reason 1; 2.gif: reason 2; 3.gif: reason 3;"
        " 2 more reasons: --log-level info"
    )
    assert each == [f"left out: {n}.gif: reason {n}" for n in range(6)]


def test_without_left_out_videos_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    warn_of([], DATA)
    assert caplog.messages == []
