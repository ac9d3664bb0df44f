import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latte_cli.core.data.videos.open import open_video
from latte_cli.core.errors import LatteError
from latte_cli.core.sampling.media import BORDER, contact_sheet, grid, write_gif, write_mp4, write_png

Frames = NDArray[np.uint8]


def moving_square(count: int, height: int, width: int) -> Frames:
    """A bright square that moves over a smooth gradient."""
    ramp = np.linspace(40, 200, width)[None, :, None] * np.ones((height, 1, 3)) * [1, 0.7, 0.5]
    frames = np.repeat(ramp[None], count, axis=0).astype(np.uint8)
    for place, frame in enumerate(frames):
        frame[5 : 5 + height // 3, place * 2 : place * 2 + width // 4] = (220, 40, 60)
    return frames


@pytest.mark.parametrize(("height", "width"), [(64, 64), (47, 63), (20, 16), (1, 1)])
def test_an_mp4_has_the_frames_and_the_same_bytes_each_time(tmp_path: Path, height: int, width: int) -> None:
    frames = moving_square(16, height, width)
    write_mp4(tmp_path / "a.mp4", frames, 8)
    write_mp4(tmp_path / "sub" / "other.mp4", frames, 8)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content == (tmp_path / "sub" / "other.mp4").read_bytes()
    assert b"x264 - core" not in content, "no version and options of the encoder"
    assert b"Lavf" not in content
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.mp4", "sub"]
    video = open_video(tmp_path / "a.mp4")
    shown = video.read(range(len(video)))
    assert shown.shape == (16, height + height % 2, width + width % 2, 3)
    assert np.abs(shown[:, :height, :width].astype(int) - frames).mean() < 4


def test_an_mp4_has_the_requested_frame_rate(tmp_path: Path) -> None:
    import decord

    write_mp4(tmp_path / "a.mp4", moving_square(16, 32, 32), 12.5)
    assert decord.VideoReader(str(tmp_path / "a.mp4")).get_avg_fps() == pytest.approx(12.5)


def test_a_gif_has_the_frames_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    frames = moving_square(12, 40, 48)
    write_gif(tmp_path / "a.gif", frames, 8)
    write_gif(tmp_path / "b.gif", frames, 8)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    video = open_video(tmp_path / "a.gif")
    assert len(video) == 12
    assert np.abs(video.read(range(12)).astype(int) - frames).mean() < 4
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["duration"] == pytest.approx(1000 / 8, abs=10)
        assert image.info["loop"] == 0


def test_a_png_is_lossless(tmp_path: Path) -> None:
    picture = moving_square(1, 20, 30)[0]
    write_png(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), picture)


def test_a_contact_sheet_shows_every_frame_in_rows(
    numbered: Callable[..., Frames], numbers: Callable[[Frames], list[int]]
) -> None:
    clips = np.stack([numbered(10), numbered(10, 100)])
    sheet = contact_sheet(clips, columns=4)
    height, width = 48 + BORDER, 64 + BORDER
    assert sheet.shape == (6 * height - BORDER, 4 * width - BORDER, 3)
    cells = [sheet[row * height :, column * width :][:48, :64] for row in range(6) for column in range(4)]
    assert numbers(np.stack(cells[:10])) == list(range(10))
    assert numbers(np.stack(cells[12:22])) == list(range(100, 110))
    assert all((cell == 255).all() for cell in cells[10:12] + cells[22:])


def test_a_grid_plays_all_clips_side_by_side(
    numbered: Callable[..., Frames], numbers: Callable[[Frames], list[int]]
) -> None:
    clips = np.stack([numbered(4, first) for first in (0, 50, 100)])
    page = grid(clips)
    height, width = 48 + BORDER, 64 + BORDER
    assert page.shape == (4, 2 * height - BORDER, 2 * width - BORDER, 3)
    assert numbers(page[:, :48, :64]) == [0, 1, 2, 3]
    assert numbers(page[:, :48, width:]) == [50, 51, 52, 53]
    assert numbers(page[:, height:, :64]) == [100, 101, 102, 103]
    assert (page[:, height:, width:] == 255).all()


def test_the_error_names_a_file_that_cannot_be_written_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(LatteError, match=r"a\.mp4: ffmpeg cannot write it"):
        write_mp4(tmp_path / "a.mp4", moving_square(2, 16, 16), 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (
            "[out#0/mp4 @ 0x55] Could not write header: No space left on device\n"
            "[out#0/mp4 @ 0x55] Nothing was written into output file",
            "cannot be written: No space left on device",
        ),
        ("[libx264 @ 0x55] width not divisible", "ffmpeg cannot write it: width not divisible"),
        ("", "ffmpeg cannot write it: exit code 228"),
    ],
)
def test_the_error_of_ffmpeg_says_when_the_disk_is_full(
    said: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 228, b"", said.encode())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(LatteError) as caught:
        write_mp4(tmp_path / "a.mp4", moving_square(2, 16, 16), 8)
    assert str(caught.value) == f"{tmp_path / 'a.mp4'}: {fault}"
