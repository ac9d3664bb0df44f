"""Clips as files: their formats, the record beside each, the grid of all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latte_cli.core.clips import (
    ClipFiles,
    ClipStep,
    digests,
    read_noise,
    read_record,
    write_clips,
    write_record,
)
from latte_cli.core.data.media import BORDER
from latte_cli.core.errors import LatteError

SIZE = 16


def frames(number: int, shade: int) -> NDArray[np.uint8]:
    return np.full((number, SIZE, SIZE, 3), shade, np.uint8)


def steps(num_frames: int = 2, *, decoded: bool = True) -> Iterator[ClipStep]:
    for clip in range(2):
        yield ClipStep(clip, 1, 2, (2, 2))
        latents = np.full((num_frames, 4, 2, 2), clip, np.float32)
        yield ClipStep(clip, 2, 2, (2, 2), latents, frames(num_frames, 100 * clip) if decoded else None)


def written(folder: Path, *formats: str, **options: Any) -> list[str]:
    target = ClipFiles(folder, formats)
    records: dict[str, Any] = {"a": {"seed": 1, "sha256": {}}, "b": {"seed": 2, "sha256": {}}}
    return [path.name for report in write_clips(steps(**options), records, target) for path in report.files]


def test_each_clip_has_a_file_a_format_and_its_record_and_all_a_grid(tmp_path: Path) -> None:
    names = written(tmp_path, "mp4", "gif", "png", "latents")
    clips = [f"{clip}.{suffix}" for clip in "ab" for suffix in ("mp4", "gif", "png", "npy", "json")]
    assert names == [*clips, "grid.png", "grid.mp4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    record = read_record(tmp_path / "b.json")
    assert (record["name"], record["seed"]) == ("b", 2)
    assert record["files"] == ["b.mp4", "b.gif", "b.png", "b.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), np.ones((2, 4, 2, 2), np.float32))


def test_images_make_a_grid_that_is_a_picture_alone(tmp_path: Path) -> None:
    assert written(tmp_path, "png", num_frames=1) == ["a.png", "a.json", "b.png", "b.json", "grid.png"]
    assert Image.open(tmp_path / "b.png").size == (SIZE, SIZE)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    wanted = np.full((SIZE, 2 * SIZE + BORDER, 3), 255)
    wanted[:, :SIZE], wanted[:, SIZE + BORDER :] = 0, 100
    np.testing.assert_array_equal(grid, wanted)


def test_latents_alone_make_no_grid(tmp_path: Path) -> None:
    assert written(tmp_path, "latents", decoded=False) == ["a.npy", "a.json", "b.npy", "b.json"]


def test_a_record_whose_files_have_changed_is_refused(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_text("first")
    path = write_record(tmp_path, "clip", {"sha256": digests([weights, None])})
    assert read_record(path)["sha256"].keys() == {str(weights)}
    weights.write_text("second")
    with pytest.raises(LatteError) as refusal:
        read_record(path)
    assert str(refusal.value) == f"{path}: {weights} is not the file that the clip was made from"


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[]")
    with pytest.raises(LatteError, match=r"x\.json: is no sidecar that `latte sample` wrote"):
        read_record(path)


def test_noise_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.npy"
    np.save(path, np.zeros((1, 2, 4, 8, 8), np.float32))
    assert read_noise(path, (2, 4, 8, 8)).shape == (1, 2, 4, 8, 8)
    with pytest.raises(LatteError) as refusal:
        read_noise(path, (3, 4, 8, 8))
    assert str(refusal.value) == f"{path}: found noise of shape (1, 2, 4, 8, 8), wanted (N, 3, 4, 8, 8)"


def test_a_file_that_is_no_array_of_noise_is_one_line(tmp_path: Path) -> None:
    empty, archive, words = (tmp_path / name for name in ("empty.npy", "noise.npz", "words.npy"))
    empty.touch()
    np.savez(archive, np.zeros((1, 2, 4, 8, 8)))
    np.save(words, np.full((1, 2, 4, 8, 8), "x"))
    wanted = {
        empty: "cannot be read as a .npy of noise: No data left in file",
        archive: "found an archive of arrays, wanted a .npy of noise",
        words: "found values of type <U1, wanted floating-point noise",
    }
    for path, reason in wanted.items():
        with pytest.raises(LatteError) as refusal:
            read_noise(path, (2, 4, 8, 8))
        assert str(refusal.value) == f"{path}: {reason}"
