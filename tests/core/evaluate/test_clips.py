import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError
from latte_cli.core.evaluate.clips import Item, Place, digest, draw_clips, open_clips, read_frames

Frames = NDArray[np.uint8]


def test_folders_of_movies_and_frames_are_read_and_short_ones_are_reported(
    tmp_path: Path,
    make_movie: Callable[..., Path],
    make_folder: Callable[..., Path],
    numbers: Callable[[Frames], list[int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_movie(tmp_path / "v10.mp4", 9)
    make_folder(tmp_path / "v2", 8, first=100)
    make_folder(tmp_path / "short", 3)
    (tmp_path / "broken.mp4").write_bytes(b"not a movie")
    with caplog.at_level(logging.WARNING):
        clips = open_clips("--real", tmp_path, needed=5)
    assert [(item.path.name, item.frames) for item in clips.items] == [("v2", 8), ("v10.mp4", 9)]
    assert clips.left_out == 2
    assert "short: too short: 3 frames, expected 5" in caplog.text
    assert "broken.mp4: not a movie file" in caplog.text
    assert numbers(read_frames(Place(clips.items[0], (1, 3, 5)))) == [101, 103, 105]
    assert numbers(read_frames(Place(clips.items[1], (0, 4, 8)))) == [0, 4, 8]


def test_each_row_of_an_array_is_a_clip_and_files_are_in_natural_order(tmp_path: Path) -> None:
    many = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 6, 3), dtype=np.uint8)
    np.save(tmp_path / "b10.npy", many[:2])
    np.save(tmp_path / "b2.npy", many[2])
    clips = open_clips("--generated", tmp_path, needed=5)
    assert [item.name for item in clips.items] == [
        f"{tmp_path}/b2.npy[0]",
        f"{tmp_path}/b10.npy[0]",
        f"{tmp_path}/b10.npy[1]",
    ]
    shown = [read_frames(Place(item, (4, 0))) for item in clips.items]
    assert np.array_equal(np.stack(shown), many[[2, 0, 1]][:, [4, 0]])
    assert open_clips("--generated", tmp_path / "b10.npy", needed=1).items == clips.items[1:]


def test_previews_of_training_are_no_clips(
    tmp_path: Path, make_movie: Callable[..., Path], make_folder: Callable[..., Path]
) -> None:
    samples = make_folder(tmp_path / "samples", 1)
    sheet = (samples / "frame_0.png").rename(samples / "step-00000010-000-seed42.png")
    make_movie(sheet.with_suffix(".mp4"), 5)
    with pytest.raises(LatteError, match="previews of training, but no clip of `latte sample`"):
        open_clips("--generated", samples, needed=1)
    sheet.unlink()  # a movie that has this name by chance
    assert len(open_clips("--generated", samples, needed=1).items) == 1


def lengths(*frames: int) -> tuple[Item, ...]:
    return tuple(Item(Path(f"v{number}"), count) for number, count in enumerate(frames))


def clip_set(*frames: int):  # type: ignore[no-untyped-def]
    from latte_cli.core.evaluate.clips import ClipSet

    return ClipSet("--real", Path("videos"), lengths(*frames))


def test_a_draw_depends_on_its_seed_and_begins_at_any_frame_that_fits() -> None:
    clips = clip_set(20, 30, 7)

    def begins(*seed: int) -> list[tuple[str, int]]:
        drawn = draw_clips(clips, 300, num_frames=3, stride=3, random=True, seed=seed)
        assert all(place.indices == tuple(range(i := place.indices[0], i + 9, 3))[:3] for place in drawn)
        return [(place.item.path.name, place.indices[0]) for place in drawn]

    assert begins(0, 0, 0) == begins(0, 0, 0)
    assert len({tuple(begins(*seed)) for seed in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}) == 4
    found = begins(0, 0, 0)
    assert {start for name, start in found if name == "v0"} == set(range(20 - 7 + 1))
    assert {start for name, start in found if name == "v2"} == {0}
    assert [sum(name == video for name, _ in found) for video in ("v0", "v1", "v2")] == [100, 100, 100]


def test_every_video_contributes_a_clip_before_any_contributes_two() -> None:
    clips = clip_set(*[16] * 10)
    few = draw_clips(clips, 7, num_frames=16, stride=1, random=True, seed=(0, 0, 0))
    many = draw_clips(clips, 17, num_frames=16, stride=1, random=True, seed=(0, 0, 0))
    assert len({place.item for place in few}) == 7
    counts = [sum(place.item == item for place in many) for item in clips.items]
    assert sorted(counts) == [1] * 3 + [2] * 7


def test_generated_clips_begin_at_their_first_frame_and_are_used_once() -> None:
    clips = clip_set(20, 30, 40)
    drawn = draw_clips(clips, 3, num_frames=4, stride=1, random=False, seed=(5, 0, 1))
    assert [(place.item.path.name, place.indices) for place in drawn] == [
        (f"v{number}", (0, 1, 2, 3)) for number in range(3)
    ]
    with pytest.raises(LatteError, match=r"--real: videos: found 3 clips, expected 4 \(--clips\)"):
        draw_clips(clips, 4, num_frames=4, stride=1, random=False, seed=(5, 0, 1))


def test_a_digest_depends_on_content_and_frames(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 256, (2, 4, 2, 2, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", array[::-1])
    a, b = (open_clips("--real", tmp_path / name, needed=1).items for name in ("a.npy", "b.npy"))
    assert digest(Place(a[0], (0, 1))) == digest(Place(b[1], (0, 1)))
    others = [Place(a[1], (0, 1)), Place(a[0], (1, 0)), Place(a[0], (0,))]
    assert digest(Place(a[0], (0, 1))) not in {digest(place) for place in others}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read as a .npy file"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", "cannot be read as a .npy file"),
        (b"text", "cannot be read as a .npy file"),
        (np.zeros((2, 4, 8, 8, 3), np.float32), "found float32 of shape (2, 4, 8, 8, 3), expected clips"),
        (np.zeros((2, 4, 8, 8), np.uint8), "found uint8 of shape (2, 4, 8, 8), expected clips"),
        (np.zeros((0, 4, 8, 8, 3), np.uint8), "found uint8 of shape (0, 4, 8, 8, 3), expected clips"),
        (np.zeros(3, np.uint8), "found uint8 of shape (3,), expected clips"),
        (np.zeros((2, 4, 8, 8, 3), np.uint8), "too short: 4 frames, expected 5"),
        (np.array([{}], object), "cannot be read as a .npy file"),
    ],
)
def test_arrays_that_are_not_clips_give_a_one_line_error(
    tmp_path: Path, content: bytes | NDArray[np.generic], said: str
) -> None:
    path = tmp_path / "clips.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(LatteError) as caught:
        open_clips("--real", path, needed=5)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_without_clips_gives_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(LatteError, match=r"--real: .*/none: no such file or folder"):
        open_clips("--real", tmp_path / "none", needed=1)
    with pytest.raises(
        LatteError, match=r"--real: .*: contains no clips; expected folders of images or files"
    ):
        open_clips("--real", tmp_path, needed=1)


@pytest.mark.parametrize("what", ["movie.mp4", "frames", "clips.npy"])
def test_a_clip_that_disappears_gives_a_one_line_error(
    tmp_path: Path, make_movie: Callable[..., Path], make_folder: Callable[..., Path], what: str
) -> None:
    path = tmp_path / what
    if what == "movie.mp4":
        make_movie(path, 5)
    elif what == "frames":
        make_folder(path, 5)
    else:
        np.save(path, np.zeros((2, 5, 8, 8, 3), np.uint8))
    place = Place(open_clips("--real", path, needed=5).items[-1], (0, 4))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for use in (digest, read_frames):
        with pytest.raises(LatteError) as caught:
            use(place)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_array_that_has_become_shorter_gives_a_one_line_error(tmp_path: Path) -> None:
    path = tmp_path / "clips.npy"
    np.save(path, np.zeros((2, 5, 8, 8, 3), np.uint8))
    place = Place(open_clips("--real", path, needed=5).items[1], (0, 4))
    np.save(path, np.zeros((1, 5, 8, 8, 3), np.uint8))
    with pytest.raises(LatteError, match=r"clips.npy\[1\]: no longer exists: the file"):
        digest(place)
