"""Untrusted JSON: every error is one line that names the file, the line and the field."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from latte_cli.core.errors import LatteError
from latte_cli.core.storage.json_files import Model, read_json, read_json_lines
from latte_cli.core.storage.names import FileName


class Part(Model):
    shape: tuple[int, ...]


class Thing(Model):
    count: int = Field(ge=0, lt=10)
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    file: FileName = "x"
    part: Part | None = None
    path: Path | None = None


def refusal(path: Path, kind: Any = Thing, **options: Any) -> str:
    with pytest.raises(LatteError) as caught:
        read_json(path, kind, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_values_of_the_right_types_are_read_and_unknown_keys_ignored(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(
        b'\xef\xbb\xbf{"count": 3, "rate": 1, "part": {"shape": [1, 2]}, "path": "a/b", "new": 1}'
    )
    assert read_json(path, Thing) == Thing(count=3, rate=1.0, part=Part(shape=(1, 2)), path=Path("a/b"))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{}", "count: is missing"),
        ('{"count": "3"}', 'count: found "3", expected an integer'),
        ('{"count": true}', "count: found true, expected an integer"),
        ('{"count": 1.5}', "count: found 1.5, expected an integer"),
        ('{"count": -5}', "count: found -5, expected at least 0"),
        ('{"count": 1000000000000}', "count: found 1000000000000, expected less than 10"),
        (f'{{"count": {"9" * 4000}}}', "count: found a number of 13288 bits, expected less than 10"),
        ('{"count": 1, "rate": NaN}', "rate: found nan, expected a finite number"),
        ('{"count": 1, "kind": "c"}', "kind: found \"c\", expected one of 'a' or 'b'"),
        ('{"count": 1, "file": "../x"}', 'file: found "../x", expected a path inside the folder'),
        ('{"count": 1, "file": "a\\u0000"}', 'file: found "a\0", expected a path inside the folder'),
        ('{"count": 1, "file": "a\\nb"}', 'file: found "a b", expected a valid file name'),
        ('{"count": 1, "part": {"shape": [1, "x"]}}', 'part.shape.1: found "x", expected an integer'),
        ('{"count": 1, "part": []}', "part: found a list, expected keys and values"),
        ("[]", "found a list, expected keys and values"),
        ("null", "found null, expected keys and values"),
    ],
)
def test_the_error_names_a_wrong_value_and_what_is_expected(content: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    assert refusal(path) == fault


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[" * 10**5, b'{"a":' * 10**5, b'{"count": 1', b'"\\ud800"', bytes(range(256)) * 16],
    ids=["empty", "utf-16", "lists", "objects", "cut", "half a character", "random"],
)
def test_invalid_json_gives_a_one_line_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    text = refusal(path, expected="a thing")
    assert text.startswith("cannot be read as JSON: ")
    assert text.endswith("; expected a thing")


def test_a_number_with_too_many_digits_for_python_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"count": ' + "9" * 100_000 + "}")
    assert "cannot be read as JSON" in refusal(path)


def test_a_file_over_the_limit_is_rejected_before_it_is_read_completely(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"count": 1}' + " " * 100)
    assert refusal(path, most=100) == "found more than 100 bytes, expected a small JSON file"


def test_the_error_for_a_file_of_only_wrong_values_is_short(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"count": 1, "part": {"shape": [""] * 50_000}}))
    assert refusal(path, expected="a thing") == "found 50,000 invalid values, expected a thing"


def test_a_key_of_any_characters_is_named_on_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a\nb" + "x" * 10_000: ""}))
    assert refusal(path, dict[str, int]).startswith("a\\nbxxx")
    assert len(refusal(path, dict[str, int])) < 300


def test_a_pipe_a_folder_and_a_loop_are_rejected(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    assert refusal(pipe) == "found a pipe or a device, expected a file"
    assert refusal(tmp_path) == "found a folder, expected a file"
    assert refusal(loop) == "cannot be read: Too many levels of symbolic links"
    assert refusal(tmp_path / "x" / "y", missing="it is needed") == "no such file; it is needed"


def test_the_error_names_a_wrong_line_of_a_jsonl_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"count": 1}\n\n{"count": 2}\n{"count": -2}\n')
    reading = read_json_lines(path, Thing)
    assert [next(reading), next(reading)] == [(1, Thing(count=1)), (3, Thing(count=2))]
    with pytest.raises(LatteError) as caught:
        next(reading)
    assert str(caught.value) == f"{path}: line 4: count: found -2, expected at least 0"


def test_a_line_over_the_limit_is_rejected_before_it_is_read_completely(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"count": 1}\n' + "x" * 1000)
    with pytest.raises(LatteError) as caught:
        list(read_json_lines(path, Thing, most=100))
    assert str(caught.value) == f"{path}: line 2: found more than 100 bytes, expected a line of JSON"
