"""Checks of the machine: the compiler and the compiled kernels, the cache folder, the terminal, the hub."""

import locale
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from latte_cli.core.doctor.findings import Finding, ProbeError, pip_install, probe
from latte_cli.core.errors import LatteError
from latte_cli.core.kernels import build
from latte_cli.core.storage.files import cache_folder

COMPILE_SECONDS, LOAD_SECONDS, HUB_SECONDS = 60, 60, 3
SOURCE = '#include <thread>\nextern "C" unsigned cores() { return std::thread::hardware_concurrency(); }\n'
INSTALL_COMPILER = "apt-get install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora, openEuler)"
LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"


def kernels() -> Iterator[Finding]:
    """Whether there is a working compiler, and whether the kernels are built."""
    if platform.system() != "Linux":
        yield Finding("kernels", "not used: MindSpore launches them on Linux only")
        return
    compiler = build.find_compiler()
    if compiler is None:
        text = "found none: a CPU trains and samples several times slower"
        yield Finding("compiler", text, "warning", INSTALL_COMPILER)
        return
    fault = _compiles(compiler)
    if fault:
        yield Finding("compiler", f"{compiler}: {fault}", "warning", INSTALL_COMPILER)
        return
    yield Finding("compiler", f"{compiler} compiles")
    yield _library(build.library_of(compiler))


def _compiles(compiler: str) -> str:
    """The error of a compiler for a small library; empty if it works."""
    with tempfile.TemporaryDirectory(prefix="latte-doctor-") as folder:
        source, library = Path(folder) / "cores.cc", Path(folder) / "cores.so"
        source.write_text(SOURCE)
        try:
            subprocess.run(
                [compiler, *build.FLAGS, str(source), "-o", str(library)],
                check=True,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMPILE_SECONDS,
            )
            probe(["-c", LOAD, str(library)], seconds=LOAD_SECONDS)
        except subprocess.CalledProcessError as error:
            return build.first_error(error)
        except (OSError, subprocess.SubprocessError, ProbeError) as error:
            return str(error)
    return ""


def _library(library: Path) -> Finding:
    """Whether the kernels are built and can be loaded."""
    if os.environ.get("LATTE_KERNELS", "on").lower() in ("off", "0", "false"):
        return Finding("kernels", "switched off by LATTE_KERNELS", "warning", "unset LATTE_KERNELS")
    if not library.exists():
        return Finding("kernels", "not built yet: the first training or sampling builds them, in some 15 s")
    try:
        probe(["-c", LOAD, str(library)], seconds=LOAD_SECONDS)
    except ProbeError as error:
        return Finding("kernels", f"cannot be loaded: {error}", "warning", shlex.join(["rm", str(library)]))
    return Finding("kernels", f"built, load: {library}")


def user_cache() -> Iterator[Finding]:
    """Whether the user's cache folder can be written: it stores kernels, digests and video lengths."""
    from latte_cli.core.planning.room import check_folder

    fix = "export XDG_CACHE_HOME=/a/folder/you/can/write"
    try:
        folder = cache_folder("")
        check_folder("cache folder", folder)
    except (LatteError, RuntimeError) as error:
        yield Finding("cache folder", str(error).removeprefix("cache folder: "), "problem", fix)
    else:
        yield Finding("cache folder", f"{folder} can be written")


def encoding() -> Iterator[Finding]:
    """Whether file names and output support all characters."""
    names = {
        "locale": locale.getpreferredencoding(do_setlocale=False),
        "files": sys.getfilesystemencoding(),
        "stdout": getattr(sys.stdout, "encoding", None) or "none",
    }
    found = ", ".join(f"{what} {name}" for what, name in names.items())
    wrong = [name for name in names.values() if name.lower().replace("-", "") not in ("utf8", "none")]
    if wrong:
        yield Finding("encoding", found, "warning", "export LANG=C.UTF-8")
    else:
        yield Finding("encoding", found)


def hub(*, online: bool) -> Iterator[Finding]:
    """The hub for downloading weights by name; `online`: whether to contact it."""
    try:
        from huggingface_hub import constants, get_token
    except ImportError as error:
        yield Finding("hub", f"huggingface_hub: {error}", "warning", pip_install("huggingface_hub"))
        return
    token = "a token is set" if get_token() else "no token (public weights need none)"
    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", f"offline by HF_HUB_OFFLINE; {token}")
        return
    found = f"{constants.ENDPOINT}, {token}"
    if not online:
        yield Finding("hub", f"{found}; not contacted (use --online)")
        return
    try:
        with urllib.request.urlopen(constants.ENDPOINT, timeout=HUB_SECONDS):
            yield Finding("hub", f"{found}; answers")
    except urllib.error.HTTPError as error:  # also an answer
        yield Finding("hub", f"{found}; answers ({error.code})")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        fix = "export HF_ENDPOINT=https://a.mirror, or HTTPS_PROXY for a proxy"
        yield Finding("hub", f"{found}; does not answer: {reason}", "warning", fix)
