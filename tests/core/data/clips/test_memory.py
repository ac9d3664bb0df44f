"""Moments kept in memory: each frame is encoded once, by one of the workers."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.data.clips.memory import MemorySource
from latte_cli.core.data.videos.video import ShortVideoError, VideoError

Array = NDArray[np.float32]


class Frames:
    """Three videos whose pixels show video, frame and mirroring."""

    content = "frames"
    names, frames, labels = ("a", "b", "c"), (5, 9, 1), (0, 1, 0)

    def read(self, video: int, indices: list[int], *, mirror: bool) -> Array:
        values = [100 * video + frame + 0.5 * mirror for frame in indices]
        return np.repeat(np.array(values, np.float32), 3 * 8 * 8).reshape(-1, 3, 8, 8)


def encode(frames: Array) -> Array:
    """Moments (N, 8, 1, 1) with a frame's first pixel."""
    assert len(frames) <= 4
    return np.repeat(frames[:, :1, :1, :1], 8, axis=1)


def test_frames_and_mirrored_frames_are_read_back_as_encoded() -> None:
    memory = MemorySource(Frames(), mirrored=True, chunk=4)
    assert memory.total == 2 * 15
    assert sum(memory.fill(encode)) == 30
    np.testing.assert_array_equal(memory.read(1, [8, 0, 5], mirror=False)[:, 7, 0, 0], [108, 100, 105])
    np.testing.assert_array_equal(memory.read(2, [0], mirror=True)[:, 0, 0, 0], [200.5])


def test_workers_that_share_the_encoding_get_the_same_moments(tmp_path: Path) -> None:
    alone = MemorySource(Frames(), mirrored=True, chunk=4)
    list(alone.fill(encode))
    workers = [MemorySource(Frames(), mirrored=True, chunk=4) for _ in range(3)]
    files = [tmp_path / f"{rank}.npz" for rank in range(3)]
    done = [sum(one.fill(encode, rank=rank, workers=3)) for rank, one in enumerate(workers)]
    assert sum(done) == 30
    assert max(done) < 30
    for one, file in zip(workers, files, strict=True):
        one.write_share(file)
    for rank, one in enumerate(workers):
        taken = sum(one.read_share(file) for file in files if file != files[rank])
        assert taken == 30 - done[rank]
        assert not list(one.fill(encode))
        for video, mirror in ((0, False), (1, True), (2, False)):
            whole = list(range(Frames.frames[video]))
            np.testing.assert_array_equal(
                one.read(video, whole, mirror=mirror), alone.read(video, whole, mirror=mirror)
            )


def test_a_missing_share_is_encoded_again(tmp_path: Path) -> None:
    first = MemorySource(Frames(), chunk=4)
    own = sum(first.fill(encode, rank=0, workers=2))
    assert first.read_share(tmp_path / "of another machine.npz") == 0
    assert sum(first.fill(encode)) == 15 - own
    np.testing.assert_array_equal(first.read(1, [8], mirror=False)[:, 0, 0, 0], [108])


def test_a_single_video_is_encoded_by_one_worker_and_read_by_the_other(tmp_path: Path) -> None:
    class One(Frames):
        names, frames, labels = ("a",), (3,), (0,)

    first, second = MemorySource(One(), chunk=4), MemorySource(One(), chunk=4)
    assert [*first.fill(encode, rank=0, workers=2), *second.fill(encode, rank=1, workers=2)] == [3]
    first.write_share(tmp_path / "0.npz")
    assert second.read_share(tmp_path / "0.npz") == 3
    for one in (first, second):
        assert not list(one.fill(encode))
        np.testing.assert_array_equal(one.read(0, [2, 0], mirror=False)[:, 0, 0, 0], [2, 0])


@pytest.mark.parametrize(
    ("fault", "readable", "said"),
    [
        (ShortVideoError(Path("b.mp4"), 9, 6), 6, "states 9 frames, but only the first 6 can be decoded"),
        (VideoError(Path("b.mp4"), "damaged"), 4, "damaged"),
    ],
)
def test_clips_after_the_end_of_a_damaged_video_are_refused_whoever_encodes_it(
    fault: VideoError, readable: int, said: str, tmp_path: Path
) -> None:
    class Damaged(Frames):
        def read(self, video: int, indices: list[int], *, mirror: bool) -> Array:
            if video == 1 and max(indices) >= 6:
                raise fault
            return super().read(video, indices, mirror=mirror)

    alone = MemorySource(Damaged(), mirrored=True, chunk=4)
    assert sum(alone.fill(encode)) == 30
    pair = [MemorySource(Damaged(), mirrored=True, chunk=4) for _ in range(2)]
    for rank, one in enumerate(pair):
        list(one.fill(encode, rank=rank, workers=2))
        one.write_share(tmp_path / f"{rank}.npz")
    for rank, one in enumerate(pair):
        one.read_share(tmp_path / f"{1 - rank}.npz")
        assert not list(one.fill(encode))
    for mirror in (False, True):
        for memory in (alone, *pair):
            found = memory.read(1, list(range(readable)), mirror=mirror)[:, 0, 0, 0]
            np.testing.assert_array_equal(found, 100 + np.arange(readable) + 0.5 * mirror)
            with pytest.raises(VideoError, match=f"{said}|only the first {readable} of its 9 frames can be"):
                memory.read(1, [0, readable], mirror=mirror)
            assert len(memory.read(2, [0], mirror=mirror)) == 1
    with pytest.raises(VideoError, match=said):
        alone.read(1, [8], mirror=False)


def test_a_video_that_cannot_be_read_at_all_is_refused() -> None:
    class Lost(Frames):
        def read(self, video: int, indices: list[int], *, mirror: bool) -> Array:
            if video == 1:
                raise VideoError(Path("b.mp4"), "no such file or folder")
            return super().read(video, indices, mirror=mirror)

    memory = MemorySource(Lost(), chunk=4)
    assert sum(memory.fill(encode)) == 15
    with pytest.raises(VideoError, match="no such file"):
        memory.read(1, [0], mirror=False)
    np.testing.assert_array_equal(memory.read(0, [4], mirror=False)[:, 0, 0, 0], [4])
