import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from latte_cli.core.data.clips.frames import FrameSource
from latte_cli.core.data.clips.part import fingerprint
from latte_cli.core.data.videos.find import (
    VideoFile,
    check_labels,
    find_videos,
    index_clips,
    labelled_videos,
    scan,
)
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import DataSettings

MakeFolder = Callable[..., Path]
MakeMovie = Callable[..., Path]


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_videos_are_found_in_natural_order_under_unambiguous_names(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "v10/f_1.jpg",
        "v2/f_1.jpg",
        "v2/inner/clip.MP4",
        "a.gif",
        "b/a.gif",
        "b/a/0.png",
        "notes.txt",
    )
    touch(tmp_path, ".hidden/x.mp4", "b/._a.mp4", "b/.0.png")
    assert [video.name for video in find_videos(tmp_path)] == [
        "a.gif",
        "b/a",
        "b/a.gif",
        "v2",
        "v2/inner/clip.MP4",
        "v10",
    ]


def test_the_root_can_be_a_single_video(tmp_path: Path) -> None:
    touch(tmp_path, "frames/0.png", "clip.mp4")
    assert find_videos(tmp_path / "frames") == [VideoFile(tmp_path / "frames", ".")]
    assert find_videos(tmp_path / "clip.mp4") == [VideoFile(tmp_path / "clip.mp4", "clip.mp4")]


def test_links_are_followed_but_not_in_cycles(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "v/0.png")
    touch(tmp_path / "root", "w/0.png")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "w" / "up").symlink_to(tmp_path / "root")
    assert [video.name for video in find_videos(tmp_path / "root")] == ["linked/v", "w"]


def test_classes_are_the_topmost_folders_in_the_order_of_the_original(tmp_path: Path) -> None:
    touch(tmp_path, "Biking/g/a.avi", "Archery/b.avi", "a10/x.avi", "a9/x.avi", "loose.avi")
    labels = {video.name: video.label for video in find_videos(tmp_path)}
    assert labels == {
        "Archery/b.avi": 0,
        "Biking/g/a.avi": 1,
        "a10/x.avi": 2,
        "a9/x.avi": 3,
        "loose.avi": None,
    }


def test_a_missing_or_empty_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LatteError, match=r"data\.root: not set"):
        index_clips(DataSettings())
    with pytest.raises(LatteError, match=r"data\.root: .*/nowhere: no such folder"):
        find_videos(tmp_path / "nowhere")
    touch(tmp_path, "notes.txt")
    with pytest.raises(
        LatteError, match=r"contains no videos; expected folders of images or files of type \.avi, \.gif"
    ):
        find_videos(tmp_path)


def test_videos_too_short_for_a_clip_are_left_out_with_one_warning(
    tmp_path: Path, make_folder: MakeFolder, make_movie: MakeMovie, caplog: pytest.LogCaptureFixture
) -> None:
    make_folder(tmp_path / "long", 9)
    make_folder(tmp_path / "short", 8)
    make_movie(tmp_path / "movie.mp4", 30)
    touch(tmp_path, "empty.mp4")
    make_folder(tmp_path / "not \udcff text", 9)  # of the byte ff
    with caplog.at_level(logging.WARNING):
        index = index_clips(DataSettings(root=tmp_path, num_frames=4, frame_stride=2))
    assert [video.name for video in index.videos] == ["long", "movie.mp4"]
    assert index.frames == (9, 30)
    assert [record.getMessage() for record in caplog.records] == [
        "left out: 3 videos: empty.mp4: is empty; not \\udcff text: its name is not UTF-8: rename it;"
        " short: 8 frames; a clip needs 9 (lower data.frame_stride or data.num_frames)",
    ]


def test_the_error_for_clips_longer_than_every_video_names_the_longest(
    tmp_path: Path, make_folder: MakeFolder
) -> None:
    make_folder(tmp_path / "a", 9)
    make_folder(tmp_path / "b", 12)
    touch(tmp_path, "empty.mp4")
    for look in (index_clips, scan):
        with pytest.raises(LatteError) as caught:
            look(DataSettings(root=tmp_path, num_frames=4, frame_stride=3))
        assert str(caught.value) == (
            "data.num_frames: a clip is longer than every video: "
            "num_frames 4 x frame_stride 3 needs 13 frames; "
            "the longest, b, has 12"
        )


def test_the_error_without_readable_videos_has_the_first_reason(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    with pytest.raises(LatteError, match=r"none of its 2 videos can be read; the first, a\.mp4: is empty"):
        index_clips(DataSettings(root=tmp_path))


def test_linspace_clips_need_only_num_frames(tmp_path: Path, make_folder: MakeFolder) -> None:
    make_folder(tmp_path / "a", 4)
    data = DataSettings(root=tmp_path, num_frames=4, frame_stride=3, spacing="linspace")
    assert index_clips(data).frames == (4,)


def test_a_limited_scan_lists_all_videos_but_opens_only_some(tmp_path: Path, make_folder: MakeFolder) -> None:
    for name in ("a", "b", "c"):
        make_folder(tmp_path / name, 9)
    data = DataSettings(root=tmp_path, num_frames=4, frame_stride=2)
    none, full = scan(data, seconds=-1), scan(data, seconds=60)
    assert full.complete
    assert full.opened.frames == (9, 9, 9)
    assert not none.complete
    assert len(none.videos) == 3
    assert none.opened.videos == ()


def test_the_fingerprint_changes_with_names_lengths_and_labels(
    tmp_path: Path, make_folder: MakeFolder
) -> None:
    make_folder(tmp_path / "a", 9)
    data = DataSettings(root=tmp_path, num_frames=4, frame_stride=2)
    first = fingerprint(FrameSource(index_clips(data), data))
    assert first == fingerprint(FrameSource(index_clips(data), data))
    Image.new("RGB", (64, 48)).save(tmp_path / "a" / "frame_9.png")
    assert first != fingerprint(FrameSource(index_clips(data), data))


def test_a_class_list_selects_and_labels_videos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "root"
    touch(root, "run/a b.avi", "run/c.avi", "jump/d.avi", "e.avi")
    listed = tmp_path / "list.txt"
    listed.write_text(
        "# video label\nrun/a b.avi walking\n\nrun/c jogging\njump jumping\nabsent.avi walking\n"
    )
    data = DataSettings(root=root, labels=listed)
    with caplog.at_level(logging.WARNING):
        videos, left_out = labelled_videos(data)
    assert {video.name: video.label for video in videos} == {
        "run/a b.avi": 2,
        "run/c.avi": 0,
        "jump/d.avi": 1,
    }
    assert [video.name for video in left_out] == ["e.avi"]
    assert "1 of 4 lines match no video, the first absent.avi" in caplog.text
    listed.write_text("run 7\nrun/c.avi 3\n")
    videos, _ = labelled_videos(data)
    assert {video.name: video.label for video in videos} == {"run/a b.avi": 7, "run/c.avi": 3}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a.avi\n", "line 1: found 'a.avi', expected `video-or-folder label`"),
        ("a.avi 1\nb.avi walk\n", "mixes numbers with names such as walk, expected either"),
        ("a.avi 1\na.avi 2\n", "line 2: a.avi has another label on line 1"),
        ("\n", "contains no lines"),
        ("c.avi 1\n", "lists none of the 1 videos of "),
    ],
)
def test_the_error_for_an_invalid_class_list_names_the_line(tmp_path: Path, text: str, fault: str) -> None:
    touch(tmp_path, "a.avi")
    listed = tmp_path / "list.txt"
    listed.write_text(text)
    with pytest.raises(LatteError) as caught:
        labelled_videos(DataSettings(root=tmp_path, labels=listed))
    assert str(caught.value).startswith(f"data.labels: {listed}: {fault}")


def test_classes_must_exist_and_fit_the_model(tmp_path: Path) -> None:
    check_labels([VideoFile(tmp_path, "a", 0), VideoFile(tmp_path, "b", 100)], 101)
    with pytest.raises(LatteError, match=r"b: has class 101: model\.num_classes 101 allows 0 to 100"):
        check_labels([VideoFile(tmp_path, "b", 101)], 101)
    with pytest.raises(LatteError, match="c: has no class"):
        check_labels([VideoFile(tmp_path, "c")], 101)


def test_special_files_and_broken_links_are_left_out_without_blocking(
    tmp_path: Path,
    make_folder: MakeFolder,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_folder(tmp_path / "good", 9)
    make_folder(tmp_path / "piped", 9)
    for name in ("pipe.mp4", "pipe.gif", "piped/frame_0.png"):
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 107 letters
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.mp4")
    (tmp_path / "device.mkv").symlink_to("/dev/zero")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone.avi").symlink_to("nowhere.avi")
    with caplog.at_level(logging.WARNING):
        index = index_clips(DataSettings(root=tmp_path, num_frames=4, frame_stride=2))
    assert [video.name for video in index.videos] == ["good"]
    assert {video.name: video.reason for video in index.left_out} == {
        "device.mkv": "is a device, expected a regular file",
        "gone.avi": "no such file or folder",
        "loop.mp4": "Too many levels of symbolic links",
        "pipe.gif": "is a named pipe, expected a regular file",
        "pipe.mp4": "is a named pipe, expected a regular file",
        "piped": "is a named pipe, expected a regular file",
        "socket.mp4": "is a socket, expected a regular file",
    }


def test_a_root_that_links_to_itself_or_is_too_long_gives_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(LatteError, match=r"data\.root: .*/loop: Too many levels of symbolic links"):
        find_videos(tmp_path / "loop")
    with pytest.raises(LatteError, match=r"data\.root: .*x: File name too long"):
        find_videos(tmp_path / ("x" * 5000))
