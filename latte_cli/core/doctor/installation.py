"""Checks of Python, the required packages, and their components: MindSpore, ffmpeg, decord."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from latte_cli.core.doctor.findings import Finding, ProbeError, pip_install, probe

DISTRIBUTION = "latte-cli"
NAMED = ("mindspore", "mindone", "numpy")  # the others are only counted
COMPUTE_SECONDS, IMPORT_SECONDS = 120, 60  # of a busy machine; a free one takes three and one
MINDSPORE_GUIDE = "install MindSpore according to https://www.mindspore.cn/install/en"
CLIP_SIZE, CLIP_FRAMES = 16, 2
READERS = ("decord", "eva-decord")  # either contains the module decord
DECORD_GUIDE = "build it (https://github.com/dmlc/decord), or extract frames: ffmpeg -i a.mp4 a/%06d.png"


def python() -> Iterator[Finding]:
    """Whether this Python version is supported."""
    from packaging.specifiers import SpecifierSet

    wanted = SpecifierSet(distribution(DISTRIBUTION).metadata["Requires-Python"] or "")
    found = f"{platform.python_version()} ({sys.executable}), {platform.system()} {platform.machine()}"
    if platform.python_version() in wanted:
        yield Finding("python", found)
    else:
        fix = "install Python 3.11, then: make install PYTHON=python3.11"
        yield Finding("python", f"{found}, expected {wanted}", "problem", fix)


def packages() -> Iterator[Finding]:
    """Whether every dependency is installed, with a version within its bounds."""
    from packaging.requirements import Requirement

    right: dict[str, str] = {}
    for text in distribution(DISTRIBUTION).requires or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, bounds = requirement.name, str(requirement.specifier)
        installed = _installed(*READERS) if name in READERS else _installed(name)
        if installed is None:
            yield Finding(name, f"not installed, expected {bounds}", "problem", pip_install(name + bounds))
            continue
        _, found = installed
        if requirement.specifier.contains(found, prereleases=True):
            right[name] = found
        else:
            yield Finding(name, f"{found}, expected {bounds}", "problem", pip_install(name + bounds))
    named = [f"{name} {right.pop(name)}" for name in NAMED if name in right]
    yield Finding("packages", ", ".join([*named, f"{len(right)} others within their bounds"]))


@dataclass(frozen=True)
class Computed:
    """Result of a computation with MindSpore: the device in use, or the error."""

    device: str = "cpu"
    version: str = ""
    fault: str = ""


def compute(device: str) -> Computed:
    """Multiply two matrices with MindSpore on `device` (auto, cpu, ascend, gpu), in a separate process."""
    try:
        answer = probe(["-m", "latte_cli.core.doctor.compute", device], seconds=COMPUTE_SECONDS)
    except ProbeError as error:
        return Computed(fault=str(error))
    _, found, of_version = answer.splitlines()[-1].split()  # MindSpore may print other lines before it
    return Computed(found, of_version)


def mindspore(computed: Computed, device: str) -> Iterator[Finding]:
    """Whether MindSpore computes."""
    if not computed.fault:
        yield Finding("mindspore", f"{computed.version} computes on {computed.device}")
        return
    try:
        missing, of_version = False, version("mindspore")
    except PackageNotFoundError:
        missing, of_version = True, "not installed"
    again = () if missing else ("--force-reinstall",)
    fix = MINDSPORE_GUIDE if device in ("ascend", "gpu") else pip_install(*again, _mindspore())
    yield Finding("mindspore", f"{of_version}: {computed.fault}", "problem", fix)


def ascend() -> Iterator[Finding]:
    """Whether the driver's devices and CANN's environment are present. Untested on Ascend."""
    devices = sorted(path.name for path in Path("/dev").glob("davinci[0-9]*"))
    home = os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME")
    parts = [
        ", ".join(devices) or "no /dev/davinci*",
        f"CANN at {home}" if home else "ASCEND_HOME_PATH not set",
    ]
    if not devices:
        yield Finding(
            "ascend", ", ".join(parts), "problem", "install the driver; npu-smi info lists the devices"
        )
    elif not home:
        fix = "source /usr/local/Ascend/ascend-toolkit/set_env.sh"
        yield Finding("ascend", ", ".join(parts), "problem", fix)
    else:
        yield Finding("ascend", ", ".join(parts))


def videos() -> Iterator[Finding]:
    """Whether ffmpeg can write a clip and decord can read it."""
    with tempfile.TemporaryDirectory(prefix="latte-doctor-") as folder:
        clip = Path(folder) / "clip.mp4"
        yield _ffmpeg(clip)
        yield _decord(clip if clip.is_file() else None)


def _ffmpeg(clip: Path) -> Finding:
    try:
        import imageio_ffmpeg

        binary = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError, OSError) as error:
        return Finding("ffmpeg", f"found none: {error}", "problem", pip_install("imageio-ffmpeg"))
    fix = pip_install("--force-reinstall", "imageio-ffmpeg")
    if "IMAGEIO_FFMPEG_EXE" in os.environ:
        fix = "unset IMAGEIO_FFMPEG_EXE"
    try:
        import numpy as np

        from latte_cli.core.errors import LatteError
        from latte_cli.core.sampling.media import write_mp4

        write_mp4(clip, np.zeros((CLIP_FRAMES, CLIP_SIZE, CLIP_SIZE, 3), np.uint8), 8)
    except LatteError as error:
        return Finding("ffmpeg", f"{binary}: {str(error).removeprefix(f'{clip}: ')}", "problem", fix)
    return Finding("ffmpeg", f"{binary} writes MP4")


def _decord(clip: Path | None) -> Finding:
    """Import decord, from either package, and decode the clip, if there is one."""
    read = "" if clip is None else f"; assert len(decord.VideoReader({str(clip)!r})) == {CLIP_FRAMES}"
    installed, declared = _installed(*READERS), _declared(*READERS)
    if installed is None and declared is None:
        platform_name = f"{platform.system()} {platform.machine()} with Python {platform.python_version()}"
        return Finding("decord", f"not installed: no wheel for {platform_name}", "warning", DECORD_GUIDE)
    try:
        of_version = probe(["-c", f"import decord{read}; print(decord.__version__)"], seconds=IMPORT_SECONDS)
    except ProbeError as error:
        fix = pip_install("--force-reinstall", "--no-deps", declared) if declared else DECORD_GUIDE
        return Finding("decord", str(error), "problem", fix)
    named = " ".join(installed or ("decord", of_version.strip()))
    return Finding("decord", named + ("" if clip is None else " reads MP4"))


def _installed(*packages: str) -> tuple[str, str] | None:
    """Name and version of the first of these packages that is installed."""
    for name in packages:
        with suppress(PackageNotFoundError):
            return name, version(name)
    return None


def launchers() -> Iterator[Finding]:
    """Launchers of workers: MindSpore's msrun, and mpirun for --launcher mpirun."""
    msrun = Path(sys.executable).with_name("msrun")
    found = [str(msrun)] if msrun.exists() else []
    mpirun = shutil.which("mpirun")
    found.append(mpirun or "no mpirun (only --launcher mpirun needs it)")
    if msrun.exists():
        yield Finding("launchers", ", ".join(found))
    else:
        fix = pip_install("--force-reinstall", "--no-deps", _mindspore())
        yield Finding("launchers", f"no {msrun}, {found[-1]}", "warning", fix)


def _mindspore() -> str:
    return _declared("mindspore") or "mindspore"


def _declared(*packages: str) -> str | None:
    """The first of these packages that latte declares for this platform, with its version bounds."""
    from packaging.requirements import Requirement

    for one in map(Requirement, distribution(DISTRIBUTION).requires or ()):
        if one.name in packages and (one.marker is None or one.marker.evaluate({"extra": ""})):
            return f"{one.name}{one.specifier}"
    return None
