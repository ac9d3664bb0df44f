import os
import subprocess
from pathlib import Path

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.storage.files import atomic_file, atomic_folder, clear_partials, new_folder, write_file


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "weights.ckpt"
    write_file(target, "old")

    def stop_half_way() -> None:
        with atomic_file(target) as partial:
            partial.write_text("half of the n")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop_half_way()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["weights.ckpt"]


def test_the_error_names_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LatteError, match=r"file/sub/x\.json: cannot be written: Not a directory"):
        write_file(tmp_path / "file" / "sub" / "x.json", "{}")


def test_temporary_files_of_a_killed_process_are_removed_and_complete_files_stay(tmp_path: Path) -> None:
    for name in (".step-1.77.partial.ckpt", ".metrics.78.partial.jsonl", ".hidden", "step-1.ckpt"):
        (tmp_path / name).touch()
    clear_partials(tmp_path, "step-*")
    left = {".metrics.78.partial.jsonl", ".hidden", "step-1.ckpt"}
    assert {path.name for path in tmp_path.iterdir()} == left
    clear_partials(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == left - {".metrics.78.partial.jsonl"}
    clear_partials(tmp_path / "missing")


def test_the_first_write_into_a_folder_removes_what_killed_processes_left(tmp_path: Path) -> None:
    ended, here = ended_process(), machine_in_names(tmp_path / "other")
    (tmp_path / f".run.{ended}-{here}.partial").mkdir()
    (tmp_path / f".run.{ended}-{here}.partial" / "x").touch()
    (tmp_path / f".x.1.{ended}-{here}.partial.npy").touch()
    kept = {
        f".x.{os.getpid()}-{here}.partial.npy",
        f".x.{ended}-00000000.partial.npy",
        ".precious.partial",
    }
    for name in kept:
        (tmp_path / name).touch()
    write_file(tmp_path / "y.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == kept | {"other", "y.json"}


def test_a_folder_whose_replacement_was_killed_between_two_renames_is_put_back(tmp_path: Path) -> None:
    ended, here = ended_process(), machine_in_names(tmp_path / "other")
    for name in ("lost", "replaced"):
        (tmp_path / f".{name}.{ended}-{here}.before").mkdir()
        (tmp_path / f".{name}.{ended}-{here}.before" / "old").touch()
    (tmp_path / "replaced").mkdir()
    with (
        pytest.raises(LatteError, match="lost: already exists"),
        atomic_folder(tmp_path / "lost", force=False),
    ):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"other", "lost", "replaced"}
    assert (tmp_path / "lost" / "old").exists()
    assert not list((tmp_path / "replaced").iterdir())


def ended_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def machine_in_names(folder: Path) -> str:
    """What identifies this machine in the name of a file while it is written."""
    with atomic_file(folder / "x.npy") as partial:
        partial.touch()
        return partial.name.split("-")[1].split(".")[0]


def test_a_failed_write_removes_folders_created_for_it(tmp_path: Path) -> None:
    def stop_half_way() -> None:
        with atomic_file(tmp_path / "a" / "b" / "x.json"):
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_stays_if_it_existed_or_is_not_empty(tmp_path: Path) -> None:
    with new_folder(tmp_path / "made" / "inner"):
        assert (tmp_path / "made" / "inner").is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    with new_folder(tmp_path / "there"), new_folder(tmp_path / "filled" / "inner"):
        (tmp_path / "filled" / "inner" / "x").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"there", "filled"}


def test_the_error_names_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LatteError, match=r"/file/x: cannot be created: Not a directory"):
        with_folder(tmp_path / "file" / "x")
    monkeypatch.setattr("os.access", lambda *_: False)  # as for every user except root
    with pytest.raises(LatteError, match=r"/a: cannot be written to: no permission"):
        with_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def with_folder(folder: Path) -> None:
    with new_folder(folder):
        pass
