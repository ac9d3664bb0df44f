"""Clips as files: formats, the spec next to each, the grid of all."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latte_cli.core.errors import LatteError
from latte_cli.core.sampling import write as clips
from latte_cli.core.sampling.generator import ClipStep
from latte_cli.core.sampling.media import BORDER
from latte_cli.core.sampling.spec import ClipSpec, Format
from latte_cli.core.sampling.write import ClipFiles, write_clip, write_clips

SIZE = 16
SPECS = [
    ClipSpec(name=name, seed=seed, row=seed - 1, initial_latents=None, sha256={}, formats=("mp4",))
    for name, seed in (("a", 1), ("b", 2))
]


def frames(number: int, shade: int) -> NDArray[np.uint8]:
    return np.full((number, SIZE, SIZE, 3), shade, np.uint8)


def steps(num_frames: int = 2, *, decoded: bool = True) -> Iterator[ClipStep]:
    for clip in range(2):
        yield ClipStep(clip, 1, 2, (2, 2))
        latents = np.full((num_frames, 4, 2, 2), clip, np.float32)
        yield ClipStep(clip, 2, 2, (2, 2), latents, frames(num_frames, 100 * clip) if decoded else None)


def written(folder: Path, *formats: Format, **options: Any) -> list[str]:
    target = ClipFiles(folder, formats)
    return [path.name for report in write_clips(steps(**options), SPECS, target) for path in report.files]


def test_each_clip_has_a_file_per_format_and_a_sidecar_and_all_have_a_grid(tmp_path: Path) -> None:
    names = written(tmp_path, "mp4", "gif", "png", "latents")
    made = [f"{clip}.{suffix}" for clip in "ab" for suffix in ("mp4", "gif", "png", "npy", "json")]
    assert names == [*made, "grid.png", "grid.mp4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    record = json.loads((tmp_path / "b.json").read_text())
    assert (record["name"], record["seed"]) == ("b", 2)
    assert record["files"] == ["b.mp4", "b.gif", "b.png", "b.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), np.ones((2, 4, 2, 2), np.float32))


def test_the_grid_of_images_is_a_picture(tmp_path: Path) -> None:
    assert written(tmp_path, "png", num_frames=1) == ["a.png", "a.json", "b.png", "b.json", "grid.png"]
    assert Image.open(tmp_path / "b.png").size == (SIZE, SIZE)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    expected = np.full((SIZE, 2 * SIZE + BORDER, 3), 255)
    expected[:, :SIZE], expected[:, SIZE + BORDER :] = 0, 100
    np.testing.assert_array_equal(grid, expected)


def test_latents_have_no_grid(tmp_path: Path) -> None:
    assert written(tmp_path, "latents", decoded=False) == ["a.npy", "a.json", "b.npy", "b.json"]


def test_the_next_clip_is_sampled_while_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on, target = Event(), ClipFiles(tmp_path, ("png",))

    def late(*arguments: Any, **options: Any) -> list[Path]:
        assert going_on.wait(60)
        return write_clip(*arguments, **options)

    def stepping() -> Iterator[ClipStep]:
        for step in steps():
            if step.clip == 1:
                going_on.set()
            yield step

    monkeypatch.setattr(clips, "write_clip", late)
    reported = [(report.clip, report.step, report.files) for report in write_clips(stepping(), SPECS, target)]
    assert [at[:2] for at in reported] == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 2), (1, 2)]
    assert [len(files) for *_, files in reported[:2]] == [0, 0]
    names = [path.name for *_, files in reported for path in files]
    assert names == ["a.png", "a.json", "b.png", "b.json", "grid.png", "grid.mp4"]
    assert [path.name for path in reported[4][2]] == [
        "b.png",
        "b.json",
    ]  # a is reported at the latest when b ends


def test_a_clip_that_cannot_be_written_ends_sampling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> list[Path]:
        raise LatteError("the disk is full")

    monkeypatch.setattr(clips, "write_clip", full)
    with pytest.raises(LatteError, match="the disk is full"):
        list(write_clips(steps(), SPECS, ClipFiles(tmp_path, ("png",))))
    assert list(tmp_path.iterdir()) == []


def test_a_clip_being_written_during_an_interruption_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = Event()

    def late(*arguments: Any, **options: Any) -> list[Path]:
        assert interrupted.wait(60)
        return write_clip(*arguments, **options)

    def stepping() -> Iterator[ClipStep]:
        yield from islice(steps(), 3)
        interrupted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(clips, "write_clip", late)
    with pytest.raises(KeyboardInterrupt):
        list(write_clips(stepping(), SPECS, ClipFiles(tmp_path, ("mp4", "png"))))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.mp4", "a.png"]


def test_frames_are_passed_to_keep_and_no_grid_is_written(tmp_path: Path) -> None:
    kept: dict[str, int] = {}

    def keep(name: str, frames: NDArray[np.uint8]) -> None:
        kept[name] = int(frames.max())

    reports = list(write_clips(steps(), SPECS, ClipFiles(tmp_path, ("png",)), keep=keep))
    assert kept == {"a": 0, "b": 100}
    assert [int(report.frames.max()) for report in reports if report.frames is not None] == [0, 100]
    assert not (tmp_path / "grid.png").exists()


def test_format_frames_writes_decoded_frames_unchanged_and_no_grid(tmp_path: Path) -> None:
    assert written(tmp_path, "frames") == ["a.npy", "a.json", "b.npy", "b.json"]
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), frames(2, 100))
