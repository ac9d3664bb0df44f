"""A wheel, built from a source distribution, is installed and run: it contains all files that it needs."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from latte_cli import __version__
from latte_cli.core.settings.shipped import SCHEMA

ROOT = Path(__file__).parents[1]
NEVER_PACKED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "golden")
BUILD = "from setuptools import build_meta; import sys; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
INSTALLED = ("packages", "mindspore", "kernels", "ffmpeg", "decord")


def build(what: str, source: Path, target: Path) -> Path:
    """The file that a build of `source` leaves in `target`."""
    target.mkdir()
    command = [sys.executable, "-c", BUILD, what, str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("system", "machine", "python", "expected"),
    [
        ("linux", "x86_64", "3.12", ["decord"]),
        ("win32", "AMD64", "3.11", ["decord"]),
        ("darwin", "arm64", "3.11", ["eva-decord"]),
        ("darwin", "arm64", "3.12", []),
        ("linux", "aarch64", "3.11", []),
    ],
)
def test_decord_is_required_on_platforms_with_a_wheel(
    system: str, machine: str, python: str, expected: list[str]
) -> None:
    lines = re.findall(r'^    "((?:eva-)?decord.+)",$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    place = {"sys_platform": system, "platform_machine": machine, "python_version": python}
    readers = [Requirement(line) for line in lines]
    assert len(readers) == 2
    assert [one.name for one in readers if one.marker and one.marker.evaluate(place)] == expected


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of this working tree, unpacked."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=NEVER_PACKED)
    with tarfile.open(build("build_sdist", folder / "tree", folder / "sdist")) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel built from the source distribution."""
    return build("build_wheel", sdist, sdist.parent / "wheel")


def of_the_package() -> set[str]:
    """The files that a user of the package needs, by their names in the package."""
    package = ROOT / "latte_cli"
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    inside = {f"latte_cli/{path.relative_to(package)}" for path in files}
    return inside | {f"latte_cli/configs/{path.name}" for path in (ROOT / "configs").iterdir()}


@pytest.mark.slow
def test_a_wheel_contains_every_file_of_the_package_and_the_experiments(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert held == of_the_package()
        for path in (ROOT / "configs").iterdir():
            assert archive.read(f"latte_cli/configs/{path.name}") == path.read_bytes()


@pytest.mark.slow
def test_a_source_distribution_has_the_package_and_no_tests(sdist: Path) -> None:
    held = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    made = {name for name in held if name.startswith("build/") or ".egg-info/" in name}
    project = {"pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"}
    assert held - made - {"PKG-INFO", "setup.cfg"} == of_the_package() | project


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """installed("train", ...): stdout of a command of the wheel's `latte`, in an empty folder to begin with.

    The environment is new; dependencies are those of the tests, by a .pth file.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "shared.pth").write_text("\n".join(shared))
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    (folder / "empty").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(python.with_name("latte")), *arguments],
            cwd=folder / "empty",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.mark.slow
def test_an_installed_wheel_runs_in_an_empty_folder(installed: Callable[..., str]) -> None:
    assert installed("--version") == f"latte {__version__}\n"
    names = [line.split()[0] for line in installed("configs").splitlines()]
    assert names == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    copy = installed("configs", "sky")
    schema = copy.partition("$schema=")[2].partition("\n")[0]
    assert Path(schema.removeprefix("file://")).read_bytes() == (ROOT / "configs" / SCHEMA).read_bytes()
    assert copy.replace(schema, SCHEMA) == (ROOT / "configs" / "sky.yaml").read_text("utf-8")
    found = [line.split() for line in installed("doctor").splitlines()]
    verdicts = {words[0]: words[1] for words in found if words and words[0] in INSTALLED}
    assert verdicts == dict.fromkeys(INSTALLED, "ok")
    assert "\nrun_dir: runs/demo\n" in f"\n{installed('train', '--dry-run')}"


@pytest.mark.slow
def test_an_installed_wheel_trains_its_demo_and_samples_from_it(installed: Callable[..., str]) -> None:
    small = ("--set", "model.depth=2", "--set", "train.batch_size=1")
    installed("train", "--steps", "1", *small)
    shown = installed("sample", "--steps", "2", "--num-samples", "1", "--set", "model.depth=2")
    assert shown.splitlines()[0].endswith(".mp4")
