from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latte_cli.core.data.videos.open import open_video
from latte_cli.core.data.videos.video import VideoError

Frames = NDArray[np.uint8]


def test_frames_of_a_folder_are_ordered_by_the_last_number_in_their_names(tmp_path: Path) -> None:
    for name, grey in [
        ("v2_frame_9.png", 9),
        ("v2_frame_10.png", 10),
        ("v1_frame_100.bmp", 100),
        ("cover.png", 200),
    ]:
        Image.new("L", (8, 6), grey).save(tmp_path / name)
    video = open_video(tmp_path)
    assert len(video) == 4
    frames = video.read([0, 1, 2, 3])
    assert frames.shape == (4, 6, 8, 3)
    assert frames[:, 0, 0, 0].tolist() == [9, 10, 100, 200]


def test_frames_are_returned_in_the_requested_order_with_repetitions(
    tmp_path: Path, make_folder: Callable[..., Path], numbers: Callable[[Frames], list[int]]
) -> None:
    video = open_video(make_folder(tmp_path / "v", 12))
    assert numbers(video.read([11, 3, 3, 0])) == [11, 3, 3, 0]


def test_any_colour_mode_is_read_as_rgb(tmp_path: Path) -> None:
    grey16 = (np.full((4, 4), 200, np.uint16) << 8) + 99
    Image.fromarray(grey16).save(tmp_path / "0.png")
    Image.new("RGBA", (4, 4), (200, 200, 200, 0)).save(tmp_path / "1.png")
    Image.new("P", (4, 4), 0).save(tmp_path / "2.png")
    frames = open_video(tmp_path).read([0, 1, 2])
    assert frames.dtype == np.uint8
    assert frames[:2, 0, 0].tolist() == [[200, 200, 200]] * 2


def test_the_error_names_a_frame_of_another_size(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "0.png")
    Image.new("RGB", (8, 7)).save(tmp_path / "1.png")
    with pytest.raises(VideoError, match=r"1\.png: is 8x7, but the first frame of its folder is 8x6"):
        open_video(tmp_path).read([0, 1])


def test_the_error_names_a_damaged_frame(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "0.png")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "2.png").write_bytes(b"no picture")
    video = open_video(tmp_path)
    with pytest.raises(VideoError, match=r"1\.png: damaged: "):
        video.read([1])
    with pytest.raises(VideoError, match=r"2\.png: not an image"):
        video.read([2])


def test_the_frames_of_a_gif_are_those_a_viewer_shows(tmp_path: Path) -> None:
    """Frame 1 paints a corner over frame 0 and leaves the rest; then all is cleared, and frame 2 paints
    another corner."""

    def picture(box: tuple[int, int, int, int], colour: int) -> Image.Image:
        image = Image.new("P", (8, 8), 0)  # colour 0 is transparent
        image.putpalette([9, 9, 9, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.paste(colour, box)
        return image

    red, green, blue = picture((0, 0, 8, 8), 1), picture((0, 0, 4, 4), 2), picture((4, 4, 8, 8), 3)
    path = tmp_path / "a.gif"
    red.save(
        path, save_all=True, append_images=[green, blue], disposal=[1, 2, 1], transparency=0, optimize=False
    )
    video = open_video(path)
    assert len(video) == 3
    last, first, middle = video.read([2, 0, 1])
    assert (first == (255, 0, 0)).all()
    assert middle[1, 1].tolist() == [0, 255, 0]
    assert middle[6, 6].tolist() == [255, 0, 0]
    assert last[6, 6].tolist() == [0, 0, 255]
    assert last[1, 1].tolist() == [255, 255, 255], "cleared pixels have the background colour"


def test_the_error_for_an_invalid_video_has_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is text and no movie at all, " * 50)
    (tmp_path / "text.avi").write_text("this is text and no movie at all, " * 50)
    (tmp_path / "text.gif").write_text("this is text")
    (tmp_path / "notes.txt").write_text("this is text")
    (tmp_path / "folder").mkdir()
    reasons = {
        "absent.mp4": "no such file or folder",
        "empty.mp4": "is empty",
        "text.mp4": "not a movie file",
        "text.avi": "not a movie file",
        "text.gif": "not a GIF",
        "folder": "contains no images",
    }
    for name, reason in reasons.items():
        with pytest.raises(VideoError) as caught:
            open_video(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"
    with pytest.raises(VideoError, match=r"notes\.txt: not a video: expected a folder of images or one of"):
        open_video(tmp_path / "notes.txt")


@pytest.mark.slow
def test_a_gif_damaged_anywhere_gives_frames_or_a_video_error(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pictures = [Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(3)]
    pictures[0].save(tmp_path / "whole.gif", save_all=True, append_images=pictures[1:])
    whole = (tmp_path / "whole.gif").read_bytes()
    path, faults = tmp_path / "damaged.gif", 0
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + b"\xff" + whole[place + 1 :]):
            path.write_bytes(damaged)
            try:
                video = open_video(path)
                video.read(range(len(video)))
            except VideoError:
                faults += 1
    assert faults > len(whole) / 2
