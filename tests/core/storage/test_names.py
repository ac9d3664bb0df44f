"""Names in files cannot lead out of their folder."""

from pathlib import Path

import pytest

from latte_cli.core.storage.names import file_name, inside, relative, resolves_inside

OUTSIDE = [
    "a\0b",
    "/etc/passwd",
    "../up",
    "a/../../up",
    "..",
    "C:\\a",
    "C:a",
    "a\\b",
    "\\\\host\\share",
    "",
    ".",
    "./",
]
NO_NAMES = ["a\nb", "\x1b[31m", "x" * 256, "\N{HORSE}" * 64]


@pytest.mark.parametrize("name", ["a", "a/b.npy", "..a", "a..b", "x" * 255, "\N{CJK UNIFIED IDEOGRAPH-6D77}"])
def test_a_path_below_the_folder_is_kept(name: str) -> None:
    assert inside(name) == name


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_that_leaves_the_folder_on_any_system_is_rejected(name: str) -> None:
    for check in (inside, file_name):
        with pytest.raises(ValueError, match="expected a path inside the folder"):
            check(name)


@pytest.mark.parametrize("name", NO_NAMES)
def test_an_impossible_file_name_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="expected a valid file name"):
        inside(name)


def test_a_video_can_have_any_name_below_the_folder() -> None:
    for name in ("a\nb", "a\\b", "x" * 300, "C:a"):
        assert relative(name) == name
    for name in ("/a", "../a", "a/..", "", "a\0"):
        with pytest.raises(ValueError, match="expected a path inside the folder"):
            relative(name)


def test_a_file_name_with_a_folder_is_rejected() -> None:
    assert file_name("a.npy") == "a.npy"
    with pytest.raises(ValueError, match="expected a file name without a folder"):
        file_name("b/a.npy")


def test_a_link_out_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "else").mkdir()
    (tmp_path / "cache" / "latents").symlink_to(tmp_path / "else")
    assert resolves_inside(tmp_path / "cache", "shard")
    assert not resolves_inside(tmp_path / "cache", "latents/a.npy")
