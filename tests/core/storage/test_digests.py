"""Stored digests: equal to hashlib's, and used again only for unchanged files."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from latte_cli.core.storage import digests
from latte_cli.core.storage.digests import digest_of_files
from latte_cli.core.storage.files import cache_folder

LONG_AGO = 10**18


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two files that changed long ago, and an empty cache folder for their digests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "KEPT_BYTES", 1)
    paths = [tmp_path / "a.bin", tmp_path / "b.bin"]
    for path in paths:
        write(path, path.name.encode())
    return paths


def write(path: Path, content: bytes, *, time: int = LONG_AGO) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(time, time))


def tamper(path: Path, content: bytes) -> None:
    """Change a file's bytes but not its time, so that reading it again gives another digest."""
    state = path.stat()
    assert len(content) == state.st_size
    write(path, content, time=state.st_mtime_ns)


def kept() -> list[Path]:
    folder = cache_folder("digests")
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_a_digest_equals_that_of_hashlib(files: list[Path]) -> None:
    assert digest_of_files(files) == sha256(b"a.binb.bin").hexdigest()
    assert digest_of_files(files, named=True) == sha256(b"a.bin\0a.binb.bin\0b.bin").hexdigest()


def test_unchanged_files_are_not_read_again(files: list[Path]) -> None:
    first = digest_of_files(files)
    tamper(files[1], b"c.bin")
    assert digest_of_files(files) == first


@pytest.mark.parametrize("change", ["time", "size", "inode"])
def test_a_changed_file_is_read_again(files: list[Path], change: str) -> None:
    digest_of_files(files)
    if change == "time":
        write(files[1], b"c.bin", time=LONG_AGO + 1)
    elif change == "size":
        write(files[1], b"longer")
    else:
        write(files[1].with_name("other"), b"c.bin")
        files[1].with_name("other").rename(files[1])
    assert digest_of_files(files) == sha256(b"a.bin" + files[1].read_bytes()).hexdigest()
    assert len(kept()) == 1


def test_the_digest_of_a_recently_changed_file_is_not_stored(files: list[Path]) -> None:
    files[0].write_bytes(b"d.bin")
    digest_of_files(files)
    assert kept() == []


def test_digests_of_small_files_are_not_stored(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "KEPT_BYTES", 11)
    digest_of_files(files)
    assert kept() == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"files": 1, "sha256": "x"}', b"\xff"])
def test_a_damaged_digest_cache_is_computed_again_and_replaced(files: list[Path], content: bytes) -> None:
    digest = digest_of_files(files)
    whole = kept()[0].read_bytes()
    kept()[0].write_bytes(content)
    assert digest_of_files(files) == digest
    assert kept()[0].read_bytes() == whole


def test_an_unwritable_digest_cache_is_ignored(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(files[0]))
    assert digest_of_files(files) == sha256(b"a.binb.bin").hexdigest()
