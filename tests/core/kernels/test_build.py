"""Compilation on first use: cached, atomic, and optional for training."""

import ctypes
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor

from latte_cli.core.kernels import build
from latte_cli.core.kernels import operators as kernels
from latte_cli.core.kernels.selection import force_kernels, kernels_available
from latte_cli.core.storage.files import cache_folder


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Build from a folder with one small source into a temporary cache."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "answer.cc").write_text('extern "C" int answer() { return 42; }\n')
    monkeypatch.setattr(build, "SOURCE_FOLDER", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build.library_path.cache_clear()
    yield folder
    build.library_path.cache_clear()


def test_a_library_is_built_once_and_then_reused(sources: Path) -> None:
    first = build.library_path()
    assert first is not None
    assert first.parent == cache_folder("kernels")
    assert ctypes.CDLL(str(first)).answer() == 42
    written = first.stat().st_mtime_ns
    build.library_path.cache_clear()
    assert build.library_path() == first
    assert first.stat().st_mtime_ns == written
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_note_explains_the_wait_when_kernels_are_built(
    sources: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build.library_path()
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("NOTE", "compiling the CPU kernels, once on this machine: some 15 s of processor time")
    ]
    caplog.clear()
    build.library_path.cache_clear()
    build.library_path()
    assert caplog.records == []


def test_a_changed_source_gives_another_library(sources: Path) -> None:
    first = build.library_path()
    (sources / "answer.cc").write_text('extern "C" int answer() { return 43; }\n')
    build.library_path.cache_clear()
    second = build.library_path()
    assert first != second
    assert ctypes.CDLL(str(second)).answer() == 43


def test_a_truncated_library_is_built_again(sources: Path) -> None:
    compiler = build.find_compiler()
    assert compiler is not None
    library = cache_folder("kernels") / f"{build._fingerprint(compiler)}.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\x7fELF")
    assert build.library_path() == library
    assert ctypes.CDLL(str(library)).answer() == 42


def test_a_compile_error_is_a_warning(sources: Path, caplog: pytest.LogCaptureFixture) -> None:
    (sources / "answer.cc").write_text("int answer() { return; }\n")
    with caplog.at_level(logging.WARNING):
        assert build.library_path() is None
    assert "could not be built, training will be slower" in caplog.text
    assert "answer.cc:1" in caplog.text
    assert list(cache_folder("kernels").iterdir()) == []


def test_without_a_compiler_training_uses_the_operators_of_mindspore(
    sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "find_compiler", lambda: None)
    assert not kernels_available()
    assert "No C++ compiler found" in caplog.text
    out = kernels.gelu_tanh(Tensor(np.array([[0.0, 30.0]], np.float32)))
    np.testing.assert_allclose(out.asnumpy(), [[0.0, 30.0]])


def test_a_cache_folder_that_cannot_be_created_is_a_warning(
    sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(sources / "answer.cc"))
    assert build.library_path() is None
    assert "could not be built" in caplog.text


def test_the_environment_and_the_caller_can_turn_off_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels_available()
    monkeypatch.setenv("LATTE_KERNELS", "off")
    assert not kernels_available()
    force_kernels(True)
    assert kernels_available()
    force_kernels(None)
    monkeypatch.delenv("LATTE_KERNELS")
    force_kernels(False)
    assert not kernels_available()
    force_kernels(None)


@pytest.mark.slow
def test_two_processes_can_build_at_the_same_time(sources: Path) -> None:
    program = (
        "from pathlib import Path; from latte_cli.core.kernels import build;"
        f"build.SOURCE_FOLDER = Path({str(sources)!r}); print(build.library_path())"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    paths = {process.communicate(timeout=120)[0].strip().splitlines()[-1] for process in both}
    assert paths == {str(build.library_path())}
