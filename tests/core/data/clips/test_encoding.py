from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.data.clips.ahead import Piece, VideoState, decode_ahead
from latte_cli.core.data.clips.encoding import draw_latents, encode_full_batches
from latte_cli.core.data.latent_cache.numpy_files import GrowingFile, entry_file
from latte_cli.core.data.videos.find import VideoFile, find_videos
from latte_cli.core.data.videos.transforms import to_pixels
from latte_cli.core.settings.schema import DataSettings

Array = NDArray[np.float32]


def pieces_of(lengths: dict[str, int], size: int, faults: tuple[str, ...] = ()) -> list[Piece]:
    """Pieces whose frames have the pixels (video, frame)."""
    pieces = []
    for number, (name, length) in enumerate(lengths.items()):
        video = VideoFile(Path(name), name)
        frames = np.array([[number, frame] for frame in range(length)], np.float32)[:, None, :, None, None]
        pieces += [Piece(video, frames[first : first + size]) for first in range(0, length, size)]
        pieces.append(
            Piece(video, fault="torn")
            if name in faults
            else Piece(video, source=VideoState(0, 0, "", length))
        )
    return pieces


def test_every_batch_is_full_and_every_video_gets_its_own_frames_in_order() -> None:
    lengths = {"a": 5, "b": 1, "c": 12, "d": 3}
    sizes: list[int] = []

    def encode(frames: Array) -> Array:
        sizes.append(len(frames))
        return frames * 10

    found: dict[str, list[list[float]]] = {name: [] for name in lengths}
    ended: list[str] = []
    for encoded in encode_full_batches(pieces_of(lengths, 4), encode, 8):
        name = encoded.piece.video.name
        assert name not in ended
        if encoded.moments is None:
            ended.append(name)
        else:
            found[name] += encoded.moments[:, :, 0, 0].tolist()
    assert sizes == [8, 8, 8], "21 frames: two batches, and one filled up"
    assert ended == list(lengths)
    for number, (name, length) in enumerate(lengths.items()):
        assert found[name] == [[10 * number, 10 * frame] for frame in range(length)]


def test_frames_of_a_failed_video_are_no_longer_encoded() -> None:
    seen: list[float] = []

    def encode(frames: Array) -> Array:
        seen.extend(frames[:, 0, 0, 0].tolist())
        return frames

    ends = [
        (encoded.piece.video.name, encoded.piece.fault)
        for encoded in encode_full_batches(pieces_of({"a": 3, "b": 4, "c": 3}, 2, faults=("b",)), encode, 6)
        if encoded.moments is None
    ]
    assert ends == [("a", None), ("b", "torn"), ("c", None)]
    assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2], (
        "three frames of b were already queued when it failed"
    )


def test_stored_samples_match_the_formula() -> None:
    generator = np.random.default_rng(0)
    moments = generator.standard_normal((5, 8, 2, 2)).astype(np.float32)
    moments[0, 4:] = 50
    eps = generator.standard_normal((5, 4, 2, 2)).astype(np.float32)
    mean, log_variance = moments[:, :4].astype(np.float64), moments[:, 4:].astype(np.float64)
    expected = (mean + np.exp(0.5 * np.minimum(log_variance, 20)) * eps) * 0.18215
    np.testing.assert_allclose(draw_latents(moments, eps, 0.18215), expected, rtol=1e-5, atol=1e-6)


def test_videos_are_decoded_completely_and_in_order(
    tmp_path: Path, make_folder, make_movie, numbered
) -> None:  # type: ignore[no-untyped-def]
    for name, length in (("a", 9), ("b", 1), ("c", 20)):
        make_folder(tmp_path / name, length)
    (tmp_path / "bad.mp4").write_bytes(b"")
    data = DataSettings(root=tmp_path, image_size=16, workers=3)
    pieces = list(decode_ahead(find_videos(tmp_path), data, piece_frames=4, mirror=True))
    assert [piece.video.name for piece in pieces if piece.frames is None] == ["a", "b", "bad.mp4", "c"]
    assert [piece.fault for piece in pieces if piece.fault] == ["is empty"]
    frames = np.concatenate(
        [piece.frames for piece in pieces if piece.video.name == "c" and piece.frames is not None]
    )
    for copy, mirror in enumerate((False, True)):
        expected = to_pixels(numbered(20), 16, data.transform, mirror=mirror)
        np.testing.assert_array_equal(frames[:, copy], expected)


def test_an_npy_file_written_in_parts_exists_only_once_finished(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((10, 8, 2, 2)).astype(np.float32)
    for copies, shape in ((1, (10, 8, 2, 2)), (2, (5, 2, 8, 2, 2))):
        path = tmp_path / f"{copies}.npy"
        file = GrowingFile(path, "float16")
        file.append(values[:3])
        file.append(values[3:])
        assert not path.exists()
        assert file.finish(copies) == shape
        stored = np.load(path, mmap_mode="r")
        assert stored.shape == shape
        np.testing.assert_array_equal(stored.reshape(values.shape), values.astype(np.float16))
    file = GrowingFile(tmp_path / "b.npy", "float32")
    file.append(values)
    file.abandon()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.npy", "2.npy"]


@pytest.mark.parametrize("name", [".", "a/b.mp4", "a_b.mp4", "ü" * 300, "..", "a/.b", "x/" + "y" * 250])
def test_each_name_maps_to_its_own_file(name: str) -> None:
    file = entry_file(name)
    assert file.startswith("latents/")
    assert len(file.encode()) < 120
    assert "/" not in file[8:]
    assert file != entry_file(name + "2")
