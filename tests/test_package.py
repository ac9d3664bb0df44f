"""What is installed has all that it reads: checked in a wheel made from a source distribution."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKED = ("latte_cli", "configs", "pyproject.toml", "README.md", "LICENSE")
BUILD = "from setuptools import build_meta; import sys; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def build(what: str, source: Path, target: Path) -> Path:
    """The file that a build of `source` leaves in `target`."""
    target.mkdir()
    command = [sys.executable, "-c", BUILD, what, str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this working tree, by way of its source distribution."""
    folder = tmp_path_factory.mktemp("build")
    for name in PACKED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / "tree" / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / "tree" / name)
    sdist = build("build_sdist", folder / "tree", folder / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return zipfile.ZipFile(build("build_wheel", unpacked, folder / "wheel"))


@pytest.mark.slow
def test_a_wheel_carries_every_file_of_the_package_and_the_experiments(wheel: zipfile.ZipFile) -> None:
    package = ROOT / "latte_cli"
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {f"latte_cli/{path.relative_to(package)}" for path in files}
    expected |= {f"latte_cli/configs/{path.name}" for path in (ROOT / "configs").iterdir()}
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == expected


def test_an_experiment_in_a_wheel_is_that_of_the_repository(wheel: zipfile.ZipFile) -> None:
    for path in (ROOT / "configs").iterdir():
        assert wheel.read(f"latte_cli/configs/{path.name}") == path.read_bytes()
