"""The index of a scan of videos, with which the next scan opens only changed videos."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from latte_cli.core.data.videos import index as videos_index
from latte_cli.core.data.videos.find import index_clips, scan
from latte_cli.core.data.videos.index import record_path
from latte_cli.core.settings.schema import DataSettings

Looks = dict[str, list[str]]
LONG_AGO = 10**18  # ns since 1970: in 2001
FIRST = {"film.mp4": 30, "photos/a": 9, "photos/b": 12}


@pytest.fixture
def root(tmp_path: Path, make_folder: Callable[..., Path], make_movie: Callable[..., Path]) -> Path:
    """A movie and two folders of frames that were last changed long ago."""
    make_movie(tmp_path / "root" / "film.mp4", 30)
    make_folder(tmp_path / "root" / "photos" / "a", 9)
    make_folder(tmp_path / "root" / "photos" / "b", 12)
    settle(tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, root: Path) -> Looks:
    """The folders listed and the videos opened since it was cleared."""
    done: Looks = {"listed": [], "opened": []}

    def counted(name: str, kind: str) -> None:
        function = getattr(videos_index, name)

        def counting(path: Path, *others: Any) -> Any:
            done[kind].append(path.relative_to(root).as_posix())
            return function(path, *others)

        monkeypatch.setattr(videos_index, name, counting)

    counted("list_folder", "listed")
    counted("open_video", "opened")
    counted("FrameFolder", "opened")
    return done


def settle(folder: Path) -> None:
    """Set the modification time of a folder, and of folders in it, to long ago."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            os.utime(path, ns=(LONG_AGO, LONG_AGO))


def lengths(root: Path) -> dict[str, int]:
    index = index_clips(DataSettings(root=root, num_frames=1))
    return {video.name: frames for video, frames in zip(index.videos, index.frames, strict=True)}


def test_a_second_scan_lists_no_folder_and_opens_no_video(root: Path, looks: Looks) -> None:
    assert lengths(root) == FIRST
    assert sorted(looks["listed"]) == [".", "photos", "photos/a", "photos/b"]
    assert sorted(looks["opened"]) == sorted(FIRST)
    looks["listed"], looks["opened"] = [], []
    assert lengths(root) == FIRST
    assert looks == {"listed": [], "opened": []}
    found = scan(DataSettings(root=root, num_frames=1), seconds=-1)
    assert found.complete
    assert found.opened.frames == tuple(FIRST.values())


def test_only_changed_videos_are_opened_again(
    root: Path, looks: Looks, make_movie: Callable[..., Path], make_folder: Callable[..., Path]
) -> None:
    lengths(root)
    changes: list[tuple[Callable[[], Any], dict[str, int], list[str]]] = [
        (lambda: make_movie(root / "film.mp4", 20), {"film.mp4": 20}, ["film.mp4"]),
        ((root / "photos/a/frame_8.png").unlink, {"photos/a": 8}, ["photos/a"]),
        (lambda: make_folder(root / "more", 3), {"more": 3}, ["more"]),
        (lambda: Image.new("RGB", (9, 9)).save(root / "more/frame_0.png"), {}, ["more"]),
    ]
    expected = dict(FIRST)
    for change, found, opened in changes:
        looks["opened"] = []
        change()
        settle(root / "more") if (root / "more").exists() else None
        expected |= found
        assert lengths(root) == expected
        assert looks["opened"] == opened
    shutil.rmtree(root / "photos" / "b")
    del expected["photos/b"]
    looks["opened"] = []
    assert lengths(root) == expected
    assert looks["opened"] == []
    assert "photos/b" not in record_path(root).read_text()


def test_a_recently_changed_folder_is_listed_again(root: Path, looks: Looks) -> None:
    os.utime(root / "photos" / "a")  # as if a program is still writing frames
    lengths(root)
    looks["listed"] = []
    assert lengths(root) == FIRST
    assert set(looks["listed"]) == {"photos/a"}


def test_an_unreadable_video_is_opened_every_time(root: Path, looks: Looks) -> None:
    (root / "torn.mp4").write_bytes(b"torn")
    for _ in range(2):
        looks["opened"] = []
        assert lengths(root) == FIRST
        assert "torn.mp4" in looks["opened"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"frames":30', '"frames":"many"'),
        lambda text: json.dumps(json.loads(text) | {"format": 2}),
        lambda text: json.dumps(json.loads(text) | {"root": "/elsewhere"}),
    ],
)
def test_a_damaged_index_is_created_again(damage: Callable[[str], str], root: Path, looks: Looks) -> None:
    lengths(root)
    whole = record_path(root).read_text()
    record_path(root).write_text(damage(whole))
    looks["opened"] = []
    assert lengths(root) == FIRST
    assert sorted(looks["opened"]) == sorted(FIRST)
    assert json.loads(record_path(root).read_text()) == json.loads(whole)


def test_without_a_writable_cache_videos_are_opened_every_time(
    root: Path, looks: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(videos_index, "cache_folder", lambda part: tmp_path / "file")
    assert lengths(root) == lengths(root) == FIRST
    monkeypatch.setattr(videos_index, "cache_folder", lambda part: Path("~nobody-here").expanduser())
    assert lengths(root) == FIRST
    assert len(looks["opened"]) == 3 * len(FIRST)


def test_an_interrupted_scan_keeps_its_results(root: Path, looks: Looks) -> None:
    data = DataSettings(root=root, num_frames=1, workers=1)
    videos = [("film.mp4", root / "film.mp4"), ("photos/a", root / "photos/a")]
    found = videos_index.VideoIndex(root).lengths(videos, workers=data.workers, until=None)
    assert next(found) == 30
    found.close()  # type: ignore[attr-defined]
    looks["opened"] = []
    assert lengths(root) == FIRST
    assert "film.mp4" not in looks["opened"]


def test_the_size_of_the_index_does_not_depend_on_the_number_of_frames(
    tmp_path: Path, make_folder: Callable[..., Path], root: Path
) -> None:
    sizes = []
    for count in (100, 200):
        folder = make_folder(tmp_path / str(count) / "v", count)
        settle(folder.parent)
        assert lengths(folder.parent) == {"v": count}
        sizes.append(record_path(folder.parent).stat().st_size)
    assert sizes[0] == sizes[1]
