"""Which caption conditions a clip."""

from collections import Counter

import numpy as np

from latte_cli.core.data.captions.files import choose_caption, texts_of
from latte_cli.core.data.clips.batches import Batch, Sharing, batches
from latte_cli.core.data.clips.captioned import CaptionedSource
from latte_cli.core.settings.schema import DataSettings
from latte_cli.core.training.captioning import CaptionSampler

CAPTIONS = {"a": ("red", "blue"), "c": ("green",)}
STATES = {text: np.full((3, 2), place, np.float32) for place, text in enumerate(["", "red", "blue", "green"])}


class Moments:
    """Three videos whose moments are their index."""

    content = "moments"
    names, frames, labels = ("a", "b", "c"), (9, 9, 9), (None, None, None)

    def read(self, video: int, indices: list[int], *, mirror: bool) -> np.ndarray:
        return np.full((len(indices), 8, 2, 2), video, np.float32)


def source() -> CaptionedSource:
    return CaptionedSource(Moments(), CAPTIONS)


def drawn(number: int, *, images: int = 0, batch_size: int = 4, rank: int = 0, world: int = 1) -> list[Batch]:
    data = DataSettings(image_size=16, num_frames=2, frame_stride=1, use_image_num=images)
    stream = batches(source(), data=data, sharing=Sharing(batch_size, 1, rank, world), seed=3)
    return [next(stream) for _ in range(number)]


def sampler(dropout: float = 0.0) -> CaptionSampler:
    return CaptionSampler(source().captions, STATES.__getitem__, dropout=dropout)


def test_videos_without_a_caption_are_left_out_and_reported(caplog) -> None:  # type: ignore[no-untyped-def]
    found = source()
    assert (found.names, texts_of(found.captions)) == (("a", "c"), ["", "red", "blue", "green"])
    assert caplog.messages == ["left out: 1 video: b: has no caption"]
    assert found.read(1, [0], mirror=False)[0, 0, 0, 0] == 2  # video c of the source


def test_a_clip_has_the_caption_of_its_video_for_that_epoch() -> None:
    for batch in drawn(6):
        states = sampler()(batch, num_frames=2, seed=3)
        assert states.shape == (4, 1, 3, 2)
        for clip, video in enumerate(batch.videos):
            texts = CAPTIONS["ac"[video]]
            text = choose_caption(texts, seed=3, epoch=int(batch.epochs[clip]), video=int(video))
            np.testing.assert_array_equal(states[clip, 0], STATES[text])


def test_workers_report_the_same_as_one_worker() -> None:
    whole = [sampler(0.5)(batch, num_frames=2, seed=3) for batch in drawn(8)]
    parts = [
        [sampler(0.5)(batch, num_frames=2, seed=3) for batch in drawn(8, batch_size=2, rank=rank, world=2)]
        for rank in range(2)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts, axis=1))


def test_captions_are_replaced_by_the_empty_one_with_the_given_probability() -> None:
    batches_ = drawn(250)
    counts = Counter(
        text for batch in batches_ for clip in range(4) for text in sampler(0.2).texts(batch, clip, 2, 3)
    )
    assert 0.16 < counts[""] / 1000 < 0.24  # 3 standard deviations of a proportion of 1000
    kept = Counter(
        text for batch in batches_ for clip in range(4) for text in sampler().texts(batch, clip, 2, 3)
    )
    assert kept["green"] == 500
    assert kept[""] == 0


def test_each_still_image_has_the_caption_of_its_video_and_clips_are_unaffected() -> None:
    for plain, joint in zip(drawn(4), drawn(4, images=2), strict=True):
        states = sampler(0.3)(joint, num_frames=2, seed=3)
        assert states.shape == (4, 3, 3, 2)
        np.testing.assert_array_equal(states[:, :1], sampler(0.3)(plain, num_frames=2, seed=3))
        for clip in range(4):
            texts = sampler().texts(joint, clip, 2, 3)
            for text, frame in zip(texts[1:], joint.drawn_from[clip][2:], strict=True):
                assert text in CAPTIONS[frame.name]
