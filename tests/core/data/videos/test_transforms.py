"""Clips and pixels compared with recordings of the PyTorch original's datasets (tests/golden/transforms)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latte_cli.core.data.videos.transforms import (
    clip_indices,
    last_begin,
    needed_frames,
    square_taps,
    to_pixels,
)

GOLDEN = Path(__file__).parents[3] / "golden" / "transforms"
TOLERANCE = 1e-6
TEMPORAL: list[dict[str, Any]] = json.loads((GOLDEN / "temporal.json").read_text())


@pytest.mark.parametrize("case", ["wide", "tall", "square_up", "wide_down"])
def test_pixels_match_the_original(case: str) -> None:
    golden = np.load(GOLDEN / "spatial.npz")
    frames, size = golden[f"{case}.frames_THWC_uint8"], int(golden[f"{case}.size"])
    for name, transform, mirror in [
        ("sky_TCHW", "crop_resize", False),
        ("ucf_ffs_TCHW", "resize_crop", False),
        ("ucf_ffs_hflip_TCHW", "resize_crop", True),
    ]:
        pixels = to_pixels(frames, size, transform, mirror=mirror)  # type: ignore[arg-type]
        assert pixels.dtype == np.float32
        np.testing.assert_allclose(pixels, golden[f"{case}.{name}"], rtol=0, atol=TOLERANCE, err_msg=name)


def test_a_clip_of_the_sky_dataset_matches_the_original() -> None:
    golden = np.load(GOLDEN / "sky_dataset_item.npz")
    frames = golden["frames_THWC_uint8"]
    num_frames, stride = int(golden["num_frames"]), int(golden["frame_interval"])
    indices = clip_indices(
        int(golden["begin"]), len(frames), num_frames=num_frames, frame_stride=stride, spacing="stride"
    )
    assert indices == golden["indices"].tolist()
    pixels = to_pixels(frames[indices], int(golden["size"]), "crop_resize", mirror=False)
    np.testing.assert_allclose(pixels, golden["video_TCHW"], rtol=0, atol=TOLERANCE)


def test_videos_that_the_sky_dataset_skips_are_too_short() -> None:
    golden = np.load(GOLDEN / "sky_dataset_item.npz")
    short = json.loads((GOLDEN / "sky_dataset_item.json").read_text())["short_video_frames"]
    needed = needed_frames(int(golden["num_frames"]), int(golden["frame_interval"]), "stride")
    assert short < needed <= len(golden["frames_THWC_uint8"])


@pytest.mark.parametrize(
    "row", TEMPORAL, ids=lambda row: f"{row['total_frames']}-{row['num_frames']}x{row['frame_interval']}"
)
def test_the_frames_of_clips_match_the_original(row: dict[str, Any]) -> None:
    total, num_frames, stride = row["total_frames"], row["num_frames"], row["frame_interval"]
    assert last_begin(total, num_frames, stride) == row["possible_begin_max"]
    begin, end = row["begin_end_sequence"][0]
    assert end == begin + num_frames * stride
    for spacing, expected in [
        ("stride", row["sky_taichi_indices_of_first"]),
        ("linspace", row["ucf_ffs_indices_of_first"]),
    ]:
        found = clip_indices(begin, total, num_frames=num_frames, frame_stride=stride, spacing=spacing)  # type: ignore[arg-type]
        assert found == expected, spacing


@pytest.mark.parametrize(
    ("num_frames", "stride", "spacing", "needed"),
    [(16, 3, "stride", 49), (2, 3, "stride", 7), (1, 3, "stride", 1), (16, 3, "linspace", 16)],
)
def test_a_video_needs_more_frames_than_a_clip_spans(
    num_frames: int, stride: int, spacing: str, needed: int
) -> None:
    assert needed_frames(num_frames, stride, spacing) == needed  # type: ignore[arg-type]


def test_a_clip_as_long_as_its_video_begins_at_the_first_frame() -> None:
    assert [last_begin(total, 4, 2) for total in (1, 8, 9, 10)] == [0, 0, 0, 1]


def test_every_clip_stays_inside_its_video() -> None:
    for spacing in ("stride", "linspace"):
        for num_frames, stride in [(1, 1), (1, 3), (4, 1), (4, 3), (16, 2)]:
            for extra in range(40):
                total = needed_frames(num_frames, stride, spacing) + extra  # type: ignore[arg-type]
                for begin in range(last_begin(total, num_frames, stride) + 1):
                    found = clip_indices(
                        begin,
                        total,
                        num_frames=num_frames,
                        frame_stride=stride,
                        spacing=spacing,  # type: ignore[arg-type]
                    )
                    assert len(found) == num_frames
                    assert 0 <= found[0] <= found[-1] < total


def test_the_crop_matches_the_original_for_any_frame_size() -> None:
    boxes = json.loads((GOLDEN / "center_crop_short_edge.json").read_text())
    for name, box in boxes.items():
        height, width = map(int, name.split("x"))
        rows, columns = square_taps(
            height, width, box["side"], "crop_resize"
        )  # no resizing: each pixel is one of the frame
        np.testing.assert_array_equal(rows.low, box["top"] + np.arange(box["side"]))
        np.testing.assert_array_equal(columns.low, box["left"] + np.arange(box["side"]))
        assert not rows.weight.any()
        assert not columns.weight.any()


@pytest.mark.parametrize("transform", ["crop_resize", "resize_crop"])
def test_any_frame_size_gives_the_requested_square(transform: str) -> None:
    generator = np.random.default_rng(0)
    for size in (8, 64, 256):
        for height, width in [(49, 49), (1, 1), (7, 200), (161, 90), (107, 107), (360, 203)]:
            frames = generator.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
            pixels = to_pixels(frames, size, transform, mirror=False)  # type: ignore[arg-type]
            assert pixels.shape == (1, 3, size, size)
            assert np.abs(pixels).max() <= 1 + 1e-6
