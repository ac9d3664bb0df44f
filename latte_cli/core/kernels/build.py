"""Compile the C++ kernels once per machine and return the library's path."""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from latte_cli.core.storage.files import cache_folder

log = logging.getLogger(__name__)

SOURCE_FOLDER = Path(__file__).parent
# Fused multiply-adds and vectorised reductions are enabled individually: -ffast-math would drop NaNs.
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fopenmp-simd",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-pthread",
    "-shared",
    "-fPIC",
)
COMPILERS = ("g++", "c++", "clang++")
COMPILE_SECONDS = 300
NOTE = logging.WARNING + 5  # shown by default, though nothing is wrong
logging.addLevelName(NOTE, "NOTE")


@lru_cache(maxsize=1)
def library_path() -> Path | None:
    """The compiled kernels' path, compiled if necessary; None, with a warning, if that fails."""
    if platform.system() != "Linux":
        return None  # MindSpore launches custom operators on Linux only
    compiler = find_compiler()
    if compiler is None:
        log.warning("No C++ compiler found (tried $CXX, %s): training will be slower.", ", ".join(COMPILERS))
        return None
    try:
        return _build(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("The C++ kernels could not be built, training will be slower: %s", first_error(error))
        return None


def find_compiler() -> str | None:
    """The first available C++ compiler: $CXX, g++, c++, clang++."""
    for name in (os.environ.get("CXX", ""), *COMPILERS):
        path = shutil.which(name) if name else None
        if path:
            return path
    return None


def library_of(compiler: str) -> Path:
    """The path of the library built by this compiler for this processor, which may not exist yet."""
    return cache_folder("kernels") / f"{_fingerprint(compiler)}.so"


def _build(compiler: str) -> Path:
    """A loadable library: the cached one, else a new one. Two processes may build it at the same time."""
    library = library_of(compiler)
    if library.exists() and _loads(library):
        return library
    log.log(NOTE, "compiling the CPU kernels, once on this machine: some 15 s of processor time")
    library.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".so", dir=library.parent)
    os.close(handle)
    try:
        sources = [str(path) for path in sorted(SOURCE_FOLDER.glob("*.cc"))]
        command = [compiler, *FLAGS, *sources, "-o", name]
        subprocess.run(
            command, check=True, capture_output=True, text=True, errors="replace", timeout=COMPILE_SECONDS
        )
        ctypes.CDLL(name)
        os.replace(name, library)
    finally:
        Path(name).unlink(missing_ok=True)
    return library


def _fingerprint(compiler: str) -> str:
    """Hash of everything that determines the machine code: sources, compiler, flags and processor."""
    digest = hashlib.sha256()
    for path in sorted((*SOURCE_FOLDER.glob("*.cc"), *SOURCE_FOLDER.glob("*.h"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    version = subprocess.run(
        [compiler, "--version"], check=True, capture_output=True, timeout=COMPILE_SECONDS
    )
    digest.update(version.stdout + "\0".join(FLAGS).encode() + _processor().encode())
    return digest.hexdigest()[:20]


def _processor() -> str:
    """Describe the processor features used by -march=native."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    expected = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    facts = sorted({line for line in lines if line.split(":")[0].strip() in expected})
    return platform.machine() + "\n".join(facts)


def _loads(library: Path) -> bool:
    try:
        ctypes.CDLL(str(library))
    except OSError:
        return False
    return True


def first_error(error: Exception) -> str:
    """One line: the compiler's first error, if any."""
    output = getattr(error, "stderr", None) or ""
    lines = [line for line in str(output).splitlines() if "error:" in line]
    return lines[0] if lines else str(error)
