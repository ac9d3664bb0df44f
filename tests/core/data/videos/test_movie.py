import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.data.videos import movie as movie_module
from latte_cli.core.data.videos.movie import Movie
from latte_cli.core.data.videos.video import ShortVideoError, VideoError
from latte_cli.core.errors import LatteError

Frames = NDArray[np.uint8]
Numbers = Callable[[Frames], list[int]]
MakeMovie = Callable[..., Path]
COUNT = 200
# Formats for which decord's own random access is wrong (0.6.0) are marked.
FORMATS = {
    "closed.mp4": ["-c:v", "libx264", "-bf", "3", "-g", "30", "-pix_fmt", "yuv420p"],
    "open.mp4": [
        "-c:v",
        "libx264",
        "-x264-params",
        "open-gop=1:keyint=12:bframes=4",
        "-pix_fmt",
        "yuv420p",
    ],  # wrong
    "b_frames.avi": ["-c:v", "mpeg4", "-q:v", "2", "-bf", "2", "-g", "15"],  # wrong
    "mpeg2.mkv": ["-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", "-g", "12"],  # wrong
    "intra.mov": ["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "20"],
}


@pytest.mark.parametrize("name", FORMATS)
def test_random_access_returns_exactly_the_requested_frames(
    name: str, tmp_path: Path, make_movie: MakeMovie, numbers: Numbers
) -> None:
    movie = Movie(make_movie(tmp_path / name, COUNT, *FORMATS[name]))
    assert len(movie) == COUNT
    generator = random.Random(0)
    for _ in range(25):
        begin, stride = generator.randrange(COUNT - 12), generator.choice([1, 3])
        indices = list(range(begin, min(begin + 4 * stride, COUNT), stride))
        assert numbers(movie.read(indices)) == indices
    assert numbers(movie.read([7, 199, 7, 0])) == [7, 199, 7, 0]
    assert numbers(Movie(movie.path).read([COUNT - 1])) == [COUNT - 1], (
        "a second reader uses the results of the first"
    )


def test_distant_frames_are_read_by_seeking(
    tmp_path: Path, make_movie: MakeMovie, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = Movie(make_movie(tmp_path / "closed.mp4", COUNT, *FORMATS["closed.mp4"]))
    movie.read([COUNT - 1])
    decoded = []
    step = Movie._next
    monkeypatch.setattr(
        Movie, "_next", lambda self, *, keep: decoded.append(self.position) or step(self, keep=keep)
    )
    assert numbers(movie.read([165])) == [165]
    assert min(decoded) >= 150


def test_a_movie_with_duplicate_frames_is_read_without_seeking(tmp_path: Path, make_movie: MakeMovie) -> None:
    """If all frames are equal, a checksum cannot distinguish them."""
    movie = Movie(make_movie(tmp_path / "still.mp4", 1, "-vf", "loop=79:1:0", *FORMATS["closed.mp4"]))
    assert len(movie) == 80
    movie.read([79])
    movie.read([70])
    assert not any(movie._jump(key) for key in movie.key_frames)


def test_a_movie_cut_by_an_edit_list_ends_with_its_last_frame(
    tmp_path: Path, make_movie: MakeMovie, numbers: Numbers
) -> None:
    import subprocess

    import imageio_ffmpeg

    whole = make_movie(
        tmp_path / "whole.mp4", 90, "-c:v", "libx264", "-bf", "5", "-g", "30", "-pix_fmt", "yuv420p"
    )
    cut = tmp_path / "cut.mp4"
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-loglevel",
        "error",
        "-ss",
        "0.5",
        "-i",
        str(whole),
        "-c",
        "copy",
        str(cut),
    ]
    subprocess.run(command, check=True)
    movie = Movie(cut)
    assert numbers(movie.read([0, 5, 76])) == [13, 18, 89]
    with pytest.raises(ShortVideoError, match="states 90 frames, but only the first 77 can be decoded"):
        movie.read([80])
    assert numbers(movie.read([40])) == [53], "and continues after that"


def test_the_error_for_a_damaged_movie_names_the_file_and_a_short_reason(
    tmp_path: Path, make_movie: MakeMovie, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = ["-vf", "noise=alls=60:allf=t", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    whole = make_movie(tmp_path / "whole.mp4", 100, *noise, "-movflags", "+faststart").read_bytes()
    no_index = make_movie(tmp_path / "plain.mp4", 100, *noise).read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 5000] = bytes(5000)
    for name, content, reason in [
        ("cut.mp4", whole[: int(len(whole) * 0.6)], "truncated or damaged"),
        ("no_index.mp4", no_index[: len(no_index) // 2], r"truncated: its index \(moov\) is missing"),
        ("zeros.mp4", bytes(damaged), r"cannot be decoded from frame \d+ on"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=rf"{name}: {reason}$"):
            Movie(tmp_path / name).read(list(range(100)))
    assert capfd.readouterr() == ("", "")


def test_without_decord_the_error_names_the_package(
    tmp_path: Path, make_movie: MakeMovie, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_movie(tmp_path / "a.mp4", 5)
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(LatteError, match=r"^reading movie files needs decord .*expected folders of frames"):
        movie_module.Movie(path)


def test_a_movie_that_is_removed_while_it_is_read_is_named_as_missing(
    tmp_path: Path, make_movie: MakeMovie, capfd: pytest.CaptureFixture[str]
) -> None:
    movie = Movie(make_movie(tmp_path / "a.mp4", 20))
    movie.read([15])
    movie.path.unlink()
    with pytest.raises(VideoError, match=r"a\.mp4: no such file or folder$"):
        movie.read([3])
    assert capfd.readouterr() == ("", "")
