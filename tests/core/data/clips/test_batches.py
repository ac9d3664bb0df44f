import logging
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.data.clips.batches import Batch, Content, Sharing, batches, video_at
from latte_cli.core.data.clips.frames import FrameSource
from latte_cli.core.data.videos.find import index_clips
from latte_cli.core.data.videos.transforms import to_pixels
from latte_cli.core.data.videos.video import VideoError
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import DataSettings

LENGTHS = (30, 41, 52, 33, 60)
DATA = DataSettings(image_size=8, num_frames=4, frame_stride=3, random_flip=True, workers=3)


class FakeSource:
    """Clips whose pixels are (video, frame, mirrored); `broken` videos cannot be read."""

    content: Content = "frames"
    names = tuple("abcde")
    frames: tuple[int, ...] = LENGTHS
    labels: tuple[int, ...] = (0, 1, 2, 1, 0)

    def __init__(self, broken: tuple[int, ...] = (), fault: type[Exception] = VideoError) -> None:
        self.broken = broken
        self.fault = fault
        self.reads = 0

    def read(self, video: int, indices: list[int], *, mirror: bool) -> NDArray[np.float32]:
        self.reads += 1
        if video in self.broken:
            raise (
                VideoError(Path(self.names[video]), "is torn")
                if self.fault is VideoError
                else self.fault("a bug")
            )
        return np.array([[video, index, mirror] for index in indices], np.float32)[:, :, None, None]


def take(
    count: int,
    sharing: Sharing,
    *,
    source: FakeSource | None = None,
    data: DataSettings = DATA,
    **options: int,
) -> list[Batch]:
    stream = batches(source or FakeSource(), data=data, sharing=sharing, seed=7, **options)
    taken = list(islice(stream, count))
    stream.close()  # type: ignore[attr-defined]
    return taken


def by_place(taken: list[Batch]) -> dict[tuple[int, int], list[float]]:
    """The pixels of each clip by (step, place)."""
    return {
        (batch.step, int(place)): values.ravel().tolist()
        for batch in taken
        for place, values in zip(batch.places, batch.values, strict=True)
    }


def test_any_split_over_workers_and_accumulation_gives_the_same_clips() -> None:
    one = by_place(take(6, Sharing(4)))
    two = by_place(take(6, Sharing(2, rank=0, world=2))) | by_place(take(6, Sharing(2, rank=1, world=2)))
    accumulated = by_place(take(12, Sharing(2, accumulation=2)))
    both = by_place(take(12, Sharing(1, 2, rank=0, world=2))) | by_place(
        take(12, Sharing(1, 2, rank=1, world=2))
    )
    assert len(one) == 24
    assert one == two == accumulated == both


def test_a_later_start_continues_the_same_sequence() -> None:
    whole, rest = take(12, Sharing(3)), take(5, Sharing(3), start_step=7)
    for expected, found in zip(whole[7:], rest, strict=True):
        assert (found.step, found.micro) == (expected.step, 0)
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(found.places, expected.places)
        np.testing.assert_array_equal(found.class_labels, expected.class_labels)


def test_after_a_change_of_batch_size_the_videos_continue_in_order() -> None:
    before = [video for batch in take(3, Sharing(4)) for video in batch.videos]
    after = [
        video for batch in take(4, Sharing(2), start_step=3, start_position=12) for video in batch.videos
    ]
    unbroken = [video for batch in take(5, Sharing(4)) for video in batch.videos]
    assert before + after == unbroken


def test_each_epoch_has_every_video_once_in_its_own_order() -> None:
    videos = np.concatenate([batch.videos for batch in take(20, Sharing(2))]).reshape(-1, len(LENGTHS))
    assert (np.sort(videos, axis=1) == np.arange(len(LENGTHS))).all()
    assert len({tuple(epoch) for epoch in videos.tolist()}) > 1
    assert videos.ravel().tolist() == [video_at(7, position, len(LENGTHS)) for position in range(40)]


def test_clips_begin_at_any_frame_and_are_mirrored_half_the_time() -> None:
    clips = list(by_place(take(400, Sharing(4))).values())
    assert 0.4 < np.mean([clip[2] for clip in clips]) < 0.6
    begins = {(clip[0], clip[1]) for clip in clips}
    for video, length in enumerate(LENGTHS):
        allowed = length - 4 * 3  # begins 0 .. length - 13
        found = {begin for source, begin in begins if source == video}
        assert found <= set(range(allowed))
        assert len(found) > allowed / 2
        assert (min(found), max(found)) == (0, allowed - 1)
    assert all(clip[4 * 0 + 1] + 9 == clip[3 * 3 + 1] for clip in clips), (
        "three strides of 3 from first to last"
    )


def test_without_random_flip_no_clip_is_mirrored() -> None:
    clips = by_place(take(20, Sharing(4), data=DATA.model_copy(update={"random_flip": False})))
    assert not any(clip[2] for clip in clips.values())


def test_an_unreadable_video_is_reported_once_and_always_replaced_in_the_same_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        first = take(10, Sharing(4), source=FakeSource(broken=(2,)))
    assert [record.getMessage() for record in caplog.records] == ["c: is torn; replaced by other clips"]
    later = take(4, Sharing(4), source=FakeSource(broken=(2,)), start_step=6)
    assert by_place(first[6:]) == by_place(later)
    whole = by_place(take(10, Sharing(4)))
    for place, clip in by_place(first).items():
        assert clip[0] != 2
        assert clip == whole[place] or whole[place][0] == 2, "other places are unchanged"


def test_a_run_ends_when_no_video_is_readable() -> None:
    with pytest.raises(LatteError, match="none of the 5 videos can be read"):
        take(1, Sharing(4), source=FakeSource(broken=(0, 1, 2, 3, 4)))


def test_an_error_in_a_decoding_thread_is_raised_in_training() -> None:
    with pytest.raises(ZeroDivisionError, match="a bug"):
        take(3, Sharing(4), source=FakeSource(broken=(0,), fault=ZeroDivisionError))


def test_decoding_runs_a_few_batches_ahead_and_stops_with_the_iterator() -> None:
    source = FakeSource()
    stream = batches(source, data=DATA, sharing=Sharing(2), seed=7)
    next(stream)
    deadline = time.monotonic() + 5
    while source.reads < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert source.reads == 8, "the batch returned and 3 more: BATCHES_AHEAD, and one for the third thread"
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_closing_the_iterator_cancels_decoding_that_has_not_begun() -> None:
    gate = threading.Event()

    class Blocked(FakeSource):
        def read(self, video: int, indices: list[int], *, mirror: bool) -> NDArray[np.float32]:
            values = super().read(video, indices, mirror=mirror)
            if self.reads > 2:
                gate.wait(10)
            return values

    source = Blocked()
    one = DATA.model_copy(update={"workers": 1})
    stream = batches(source, data=one, sharing=Sharing(2), seed=7)
    next(stream)
    threading.Timer(0.5, gate.set).start()
    stream.close()
    assert source.reads <= 3, "the first batch, and at most the clip that was being decoded"


def test_still_images_of_other_videos_follow_the_frames_with_their_own_labels() -> None:
    data = DATA.model_copy(update={"use_image_num": 3})
    taken = take(30, Sharing(2), data=data)
    plain = take(30, Sharing(2))
    for batch, without in zip(taken, plain, strict=True):
        assert batch.values.shape == (2, 4 + 3, 3, 1, 1)
        np.testing.assert_array_equal(batch.values[:, :4], without.values)
        images = batch.values[:, 4:, 0, 0, 0].astype(int)
        assert (images != batch.videos[:, None]).all()
        np.testing.assert_array_equal(batch.image_labels, np.array(FakeSource.labels)[images])
        np.testing.assert_array_equal(batch.class_labels, np.array(FakeSource.labels)[batch.videos])
    images = np.concatenate([batch.values[:, 4:, :2, 0, 0].reshape(-1, 2) for batch in taken])
    assert set(images[:, 0]) == set(range(5))
    assert len({tuple(image) for image in images.tolist()}) > 100, "drawn from all frames"
    assert all(index < LENGTHS[int(video)] for video, index in images)
    assert by_place(take(8, Sharing(1, rank=1, world=2), data=data)).items() <= by_place(taken).items()


def test_a_batch_lists_its_frames() -> None:
    for batch in take(10, Sharing(2), data=DATA.model_copy(update={"use_image_num": 2})):
        for clip, frames in zip(batch.values, batch.drawn_from, strict=True):
            shown = [
                ("abcde"[int(video)], int(index), bool(mirror)) for video, index, mirror in clip[:, :, 0, 0]
            ]
            assert shown == [tuple(frame) for frame in frames]


def test_clips_from_files_have_the_frames_of_the_files(
    tmp_path: Path,
    make_folder: Callable[..., Path],
    make_movie: Callable[..., Path],
    numbered: Callable[..., NDArray[np.uint8]],
) -> None:
    make_folder(tmp_path / "folder", 20)
    data = DATA.model_copy(update={"root": tmp_path, "image_size": 16})
    index = index_clips(data)
    for keep_bytes in (2**29, 0, 5 * 3 * 4 * 16 * 16):
        source = FrameSource(index, data, keep_bytes=keep_bytes)
        for mirror in (False, True, False):
            found = source.read(0, [3, 6, 3], mirror=mirror)
            expected = to_pixels(numbered(20)[[3, 6, 3]], 16, data.transform, mirror=mirror)
            np.testing.assert_array_equal(found, expected)
        assert len(source.kept) <= keep_bytes // (3 * 4 * 16 * 16)


def test_decoded_frames_are_read_from_memory_the_second_time(
    tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder(tmp_path / "folder", 20)
    data = DATA.model_copy(update={"root": tmp_path})
    source = FrameSource(index_clips(data), data)
    first = source.read(0, [1, 2], mirror=False)
    for path in folder.iterdir():
        path.write_bytes(b"")
    np.testing.assert_array_equal(source.read(0, [2, 1], mirror=False), first[::-1])
    with pytest.raises(VideoError):
        source.read(0, [2, 1], mirror=True)


def test_many_threads_reading_a_few_movies_get_the_correct_frames(
    tmp_path: Path, make_movie: Callable[..., Path], numbered: Callable[..., NDArray[np.uint8]]
) -> None:
    for name in ("a.mp4", "b.avi", "c.mp4"):
        make_movie(tmp_path / name, 60, "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p")
    data = DataSettings(root=tmp_path, image_size=48, num_frames=4, frame_stride=2, workers=6)
    source = FrameSource(index_clips(data), data, keep_bytes=0)
    expected = to_pixels(numbered(60), 48, data.transform, mirror=False)
    for batch in take(20, Sharing(5), source=source, data=data):  # type: ignore[arg-type]
        for values in batch.values:
            errors = np.abs(expected - values[0]).mean(axis=(1, 2, 3))
            begin = int(errors.argmin())
            assert errors[begin] < 0.1
            assert np.abs(expected[begin : begin + 8 : 2] - values).mean() < 0.1


def test_an_unreadable_video_is_replaced_by_the_next_of_the_epoch() -> None:
    videos = [
        video for batch in take(10, Sharing(4), source=FakeSource(broken=(2,))) for video in batch.videos
    ]
    count = len(LENGTHS)
    for position, video in enumerate(videos):
        epoch, place = divmod(position, count)
        order = [video_at(7, epoch * count + nth, count) for nth in range(count)]
        assert video == (order[place] if order[place] != 2 else order[(place + 1) % count])


def test_still_images_of_an_unreadable_video_come_from_the_next_video() -> None:
    data, images = DATA.model_copy(update={"use_image_num": 2}), np.s_[:, 4:, 0, 0, 0]
    replaced = 0
    for before, after in zip(
        take(20, Sharing(2), data=data),
        take(20, Sharing(2), data=data, source=FakeSource(broken=(2,))),
        strict=True,
    ):
        kept = before.videos != 2
        expected = np.where(before.values[images] == 2, 3, before.values[images])
        np.testing.assert_array_equal(after.values[images][kept], expected[kept])
        replaced += int((before.values[images][kept] == 2).sum())
    assert replaced > 5


def few(count: int) -> FakeSource:
    """A source of the first `count` videos."""
    source = FakeSource()
    source.names, source.frames, source.labels = source.names[:count], LENGTHS[:count], source.labels[:count]
    return source


@pytest.mark.parametrize(("count", "further"), [(1, {0}), (2, {1}), (3, {1, 2}), (5, {1, 2, 3, 4})])
def test_a_still_image_comes_from_any_other_video_or_from_the_only_one(count: int, further: set[int]) -> None:
    data = DATA.model_copy(update={"use_image_num": 2})
    found = {
        (int(image) - int(video)) % count
        for batch in take(20, Sharing(2), source=few(count), data=data)
        for video, images in zip(batch.videos, batch.values[:, 4:, 0, 0, 0], strict=True)
        for image in images
    }
    assert found == further


@pytest.mark.parametrize(("flip", "low", "high"), [(True, 0.4, 0.6), (False, 0.0, 0.0)])
def test_with_random_flip_still_images_are_mirrored_half_the_time(
    flip: bool, low: float, high: float
) -> None:
    data = DATA.model_copy(update={"use_image_num": 4, "random_flip": flip})
    mirrored = np.mean([batch.values[:, 4:, 2] for batch in take(50, Sharing(2), data=data)])
    assert low <= mirrored <= high
