"""Captions from tables, folders, and text files next to videos."""

import json
import logging
import os
from collections import Counter
from pathlib import Path

import pytest

from latte_cli.core.data.captions.files import choose_caption, distinct, read_captions
from latte_cli.core.errors import LatteError

ROW = "video,caption with quotes around a caption that has commas"
LINE = '{"video": ..., "caption": ...}'
NAMES = ["bikes.mp4", "birds/flock.avi", "frames"]


def table(tmp_path: Path, content: str, name: str = "captions.csv") -> Path:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return path


def refusal(path: Path | None, root: Path) -> str:
    with pytest.raises(LatteError) as caught:
        read_captions(path, NAMES, root)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        'video,caption\nbikes.mp4,"a race, seen from above"\nbirds/flock,birds\n',
        '\ufeffbikes,"a race, seen from above"\r\n\r\nbirds/flock.avi,birds\r\n',
        'Caption,length,Video\n"a race, seen from above",3,bikes.mp4\nbirds,4,./birds/flock.avi\n',
    ],
)
def test_a_csv_names_videos_with_or_without_suffix_and_header(tmp_path: Path, content: str) -> None:
    captions = read_captions(table(tmp_path, content), NAMES, tmp_path)
    assert captions == {"bikes.mp4": ("a race, seen from above",), "birds/flock.avi": ("birds",)}


def test_several_rows_of_a_video_are_several_captions(tmp_path: Path) -> None:
    content = "video,caption\nbikes.mp4,one\nframes,x\nbikes.mp4,two\nbikes,one\n"
    captions = read_captions(table(tmp_path, content), NAMES, tmp_path)
    assert captions == {"bikes.mp4": ("one", "two"), "frames": ("x",)}
    assert distinct(captions) == ["one", "two", "x"]


def test_a_quoted_caption_can_have_quotes_and_line_breaks(tmp_path: Path) -> None:
    content = 'video,caption\nbikes.mp4,"a ""fast"" race\non [two] wheels \U0001f6b2"\n'
    captions = read_captions(table(tmp_path, content), NAMES, tmp_path)
    assert captions["bikes.mp4"] == ('a "fast" race\non [two] wheels \U0001f6b2',)


def test_a_path_below_the_root_is_the_name_of_a_video(tmp_path: Path) -> None:
    content = f"{tmp_path}/birds/flock.avi,birds\n"
    assert read_captions(table(tmp_path, content), NAMES, tmp_path) == {"birds/flock.avi": ("birds",)}


def test_json_lines_contain_a_caption_or_a_list(tmp_path: Path) -> None:
    rows = [
        {"video": "bikes.mp4", "caption": ["one", "two"]},
        {"video": "frames", "caption": "x", "other": 1},
    ]
    path = table(tmp_path, "\n".join(map(json.dumps, rows)), "captions.jsonl")
    assert read_captions(path, NAMES, tmp_path) == {"bikes.mp4": ("one", "two"), "frames": ("x",)}


@pytest.mark.parametrize("next_to_video", [True, False])
def test_text_files_are_next_to_the_videos_or_in_a_parallel_folder(
    tmp_path: Path, next_to_video: bool
) -> None:
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "flock.txt").write_text("birds\n\n  many birds \n")
    (tmp_path / "frames.txt").write_text("x")
    captions = read_captions(
        None if next_to_video else tmp_path, NAMES, tmp_path if next_to_video else Path("elsewhere")
    )
    assert captions == {"birds/flock.avi": ("birds", "many birds"), "frames": ("x",)}


def test_rows_without_a_video_are_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = table(tmp_path, "video,caption\ncats.mp4,cats\nbikes.mp4,race\ndogs.mp4,dogs\n")
    with caplog.at_level(logging.WARNING):
        read_captions(path, NAMES, tmp_path)
    assert caplog.messages == [f"{path}: 2 rows match no video, the first cats.mp4"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", "video,caption\nbikes.mp4\n", f"line 2: found 'bikes.mp4', expected {ROW}"),
        (
            "c.csv",
            'video,caption\nbikes.mp4,"race\n',
            f"line 2: found unexpected end of data, expected {ROW}",
        ),
        ("c.csv", "bikes.mp4,a race, fast\n", f"line 1: found 'bikes.mp4,a race, fast', expected {ROW}"),
        ("c.csv", "video,caption\nbikes.mp4,  \n", "line 2: found an empty caption for bikes.mp4"),
        (
            "c.csv",
            f'bikes.mp4,"{"x" * (1 << 18)}\n',
            f"line 1: found field larger than field limit (131072), expected {ROW}",
        ),
        ("c.csv", "video;caption\nbikes.mp4;race\n", f"line 1: found 'video;caption', expected {ROW}"),
        ("c.jsonl", '{"video": "a"}\n', "line 1: caption: is missing"),
        ("c.jsonl", '{"video": 1, "caption": "a"}\n', "line 1: video: found 1, expected text"),
        (
            "c.jsonl",
            '{"video": "a", "caption": 1}\n',
            "line 1: caption: found 1, expected text or a list of texts",
        ),
        (
            "c.jsonl",
            '{"video": "a", "caption": ["b", null]}\n',
            "line 1: caption.1: found null, expected text",
        ),
        (
            "c.jsonl",
            '{"video": "a", "caption": []}\n',
            "line 1: caption: found a list, expected at least 1 values",
        ),
        (
            "c.jsonl",
            "\nnot json\n",
            f"line 2: cannot be read as JSON: expected ident at line 1 column 2; expected {LINE}",
        ),
        ("c.jsonl", '["a"]\n', "line 1: found a list, expected keys and values"),
        (
            "c.jsonl",
            "[" * 100_000,
            f"line 1: cannot be read as JSON: recursion limit exceeded at line 1 column 202; expected {LINE}",
        ),
        (
            "c.jsonl",
            f'{{"video": "a", "caption": "{"x" * 10_000_000}"}}\n',
            f"line 1: found more than 1,048,576 bytes, expected {LINE}",
        ),
    ],
)
def test_the_error_for_an_invalid_line_names_the_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = table(tmp_path, content, name)
    assert refusal(path, tmp_path) == f"data.captions: {path}: {message}"


def test_captions_that_match_no_video_are_rejected(tmp_path: Path) -> None:
    path = table(tmp_path, "video,caption\ncats.mp4,cats\n")
    expected = "expected rows such as bikes.mp4,a caption"
    assert (
        refusal(path, tmp_path)
        == f"data.captions: found none in {path} for a video of {tmp_path}, {expected}"
    )
    found = f"data.captions: found none next to the 3 videos of {tmp_path}, expected a file bikes.txt"
    assert refusal(None, tmp_path) == found
    assert (
        refusal(tmp_path / "no.csv", tmp_path)
        == f"data.captions: {tmp_path / 'no.csv'}: no such file or folder"
    )
    (tmp_path / "bikes.txt").write_text("\n")
    assert (
        refusal(None, tmp_path)
        == f"data.captions: {tmp_path / 'bikes.txt'}: is empty, expected one caption per line"
    )
    (tmp_path / "bikes.txt").write_bytes(b"\xff")
    assert (
        refusal(None, tmp_path) == f"data.captions: {tmp_path / 'bikes.txt'}: cannot be read: not UTF-8 text"
    )


def test_each_epoch_draws_one_of_the_captions_of_a_video() -> None:
    texts = ("a", "b", "c")
    drawn = [choose_caption(texts, seed=1, epoch=epoch, video=5) for epoch in range(300)]
    assert drawn == [choose_caption(texts, seed=1, epoch=epoch, video=5) for epoch in range(300)]
    assert all(70 < number < 130 for number in Counter(drawn).values())
    assert drawn != [choose_caption(texts, seed=1, epoch=epoch, video=6) for epoch in range(300)]
    assert choose_caption(("only",), seed=1, epoch=0, video=0) == "only"


def test_a_caption_may_contain_unicode_line_separators(tmp_path: Path) -> None:
    text = "a race\u2028seen\x85from\u2029above"
    expected = {"bikes.mp4": (text,)}
    rows = json.dumps({"video": "bikes.mp4", "caption": text}, ensure_ascii=False) + "\r\n"
    assert read_captions(table(tmp_path, rows, "captions.jsonl"), NAMES, tmp_path) == expected
    assert read_captions(table(tmp_path, f"bikes.mp4,{text}\n"), NAMES, tmp_path) == expected


def test_an_unpaired_surrogate_is_rejected(tmp_path: Path) -> None:
    line = json.dumps({"video": "bikes.mp4", "caption": "a race \ud83d"})
    path = table(tmp_path, line, "captions.jsonl")
    assert refusal(path, tmp_path).startswith(f"data.captions: {path}: line 1: cannot be read as JSON: ")


def test_a_file_with_a_very_long_line_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "bikes.txt").write_text("x" * 10_000_000)
    expected = "found a line of 10,000,000 characters, expected at most 131,072"
    assert refusal(None, tmp_path) == f"data.captions: {tmp_path / 'bikes.txt'}: {expected}"


def test_reading_a_pipe_does_not_block(tmp_path: Path) -> None:
    for name in ("c.csv", "c.jsonl"):
        os.mkfifo(tmp_path / name)
        fault = f"data.captions: {tmp_path / name}: found a pipe or a device, expected a file"
        assert refusal(tmp_path / name, tmp_path) == fault


def test_dots_in_the_name_of_an_image_folder_are_not_a_suffix(tmp_path: Path) -> None:
    names = ["take.1", "take.2", "movie.1.mp4"]
    for name in ("take.1", "take.2", "movie.1"):
        (tmp_path / f"{name}.txt").write_text(f"of {name}\n")
    expected = {"take.1": ("of take.1",), "take.2": ("of take.2",), "movie.1.mp4": ("of movie.1",)}
    assert read_captions(None, names, tmp_path) == expected
    rows = table(tmp_path, "take.1,of take.1\ntake.2,of take.2\nmovie.1,of movie.1\ntake,of none\n")
    assert read_captions(rows, names, tmp_path) == expected
