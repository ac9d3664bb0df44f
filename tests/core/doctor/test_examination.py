"""The examination of machine and installation: faults planted one at a time, each found with its fix."""

import fcntl
import http.server
import json
import os
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from typer.testing import CliRunner

from latte_cli.cli.app import app
from latte_cli.core.doctor import installation, machine
from latte_cli.core.doctor.examination import examine
from latte_cli.core.doctor.findings import Finding, ProbeError, probe, run_checks
from latte_cli.core.kernels import build

Plant = Callable[[pytest.MonkeyPatch, Path], None]


@pytest.fixture(autouse=True)
def _with_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that the environment switches off are a finding of their own."""
    monkeypatch.delenv("LATTE_KERNELS", raising=False)


@pytest.fixture
def folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_experiment: Callable[..., str],
    make_movie: Callable[..., Path],
) -> Path:
    """A working directory with an experiment that can be trained, and a cache folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "latte.yaml").write_text(tiny_experiment(vae={"weights": "demo"}, cache={"dir": None}))
    make_movie(tmp_path / "videos" / "one.mp4", 4)
    return tmp_path


@pytest.fixture
def computing(monkeypatch: pytest.MonkeyPatch) -> None:
    """MindSpore computes, without the seconds of its import."""
    monkeypatch.setattr(installation, "compute", lambda _: installation.Computed("cpu", "2.10.0"))


def _hide_compilers(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(folder))


def _break_compiler(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    broken = folder / "broken-g++"
    broken.write_text("#!/bin/sh\necho 'fatal error: thread: No such file' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))


def _change_version(name: str, found: str) -> Plant:
    def plant(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        real = installation.version
        monkeypatch.setattr(installation, "version", lambda asked: found if asked == name else real(asked))

    return plant


def _break_module(name: str, line: str) -> Plant:
    def plant(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        (folder / "broken" / name).mkdir(parents=True)
        (folder / "broken" / name / "__init__.py").write_text(f"{line}\n")
        monkeypatch.setenv("PYTHONPATH", str(folder / "broken"))

    return plant


def _break_ffmpeg(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    broken = folder / "ffmpeg"
    broken.write_text("#!/bin/sh\necho 'Unknown encoder libx264' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))


def _file_for_cache_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "cache").write_text("")


def _little_memory(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for module in ("latte_cli.core.doctor.needs", "latte_cli.core.planning.room"):
        monkeypatch.setattr(f"{module}.machine_memory", lambda: 100_000)


def _full_disk(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr("latte_cli.core.doctor.needs.shutil.disk_usage", lambda _: usage)


def _no_videos(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "videos").rename(folder / "elsewhere")


def _file_for_run_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "run").write_text("")


def _unloadable_kernels(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    compiler = build.find_compiler()
    assert compiler is not None
    library = build.library_of(compiler)
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\x7fELF")


def _edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def _no_weights(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    _edit(folder / "latte.yaml", "weights: demo", "weights: vae.ckpt")


def _wrong_setting(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    _edit(folder / "latte.yaml", "depth: 2", "dpth: 2")


def _ascii(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(machine.sys, "getfilesystemencoding", lambda: "ascii")


FAULTS: dict[str, tuple[Plant, Finding]] = {
    "no compiler": (
        _hide_compilers,
        Finding("compiler", "found none: a CPU trains and samples several times slower", "warning", "apt-get install g++"),
    ),
    "a compiler that fails": (
        _break_compiler,
        Finding("compiler", "fatal error: thread: No such file", "warning", "apt-get install g++"),
    ),
    "another NumPy": (
        _change_version("numpy", "2.1.0"),
        Finding("numpy", "2.1.0, expected <2,>=1.26", "problem", "-m pip install 'numpy<2,>=1.26'"),
    ),
    "no decord": (
        _break_module("decord", "raise ImportError('libavformat.so: cannot open')"),
        Finding("decord", "ImportError: libavformat.so: cannot open", "problem", "pip install --force-reinstall --no-deps 'decord<0.7,>=0.6'"),
    ),
    "an ffmpeg that fails": (
        _break_ffmpeg,
        Finding("ffmpeg", "ffmpeg cannot write it: Unknown encoder libx264", "problem", "unset IMAGEIO_FFMPEG_EXE"),
    ),
    "a cache folder that cannot be written": (
        _file_for_cache_folder,
        Finding("cache folder", "cache: is a file, expected a folder", "problem", "export XDG_CACHE_HOME="),
    ),
    "too little memory": (
        _little_memory,
        Finding("memory", "this machine has 100 kB", "problem", "lower train.batch_size"),
    ),
    "a full disk": (
        _full_disk,
        Finding("disk", "1 kB free at", "problem", "run_dir to a folder on another disk"),
    ),
    "no videos": (
        _no_videos,
        Finding("data", "data.root: videos: no such folder", "problem", "--data PATH"),
    ),
    "a run folder that cannot be written": (
        _file_for_run_folder,
        Finding("run folder", "run_dir: run: is a file, expected a folder", "problem", "--run-dir DIR"),
    ),
    "kernels that do not load": (
        _unloadable_kernels,
        Finding("kernels", "cannot be loaded: OSError:", "warning", "rm "),
    ),
    "no weights": (
        _no_weights,
        Finding("weights", "vae.weights: vae.ckpt: no such file or folder", "problem", "--set vae.weights=PATH"),
    ),
    "a wrong setting": (
        _wrong_setting,
        Finding("experiment", "latte.yaml: model.dpth: unknown key", "problem", "correct these settings"),
    ),
    "an encoding without most letters": (
        _ascii,
        Finding("encoding", "files ascii", "warning", "export LANG=C.UTF-8"),
    ),
}  # fmt: skip


def _wrong(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict != "ok"]


def test_a_machine_with_all_it_needs_has_no_problem(folder: Path, computing: None) -> None:
    findings = examine()
    assert _wrong(findings) == []
    assert [finding.check for finding in findings] == [
        "python", "packages", "mindspore", "compiler", "kernels", "ffmpeg", "decord", "launchers", "cache folder",
        "encoding", "hub", "experiment", "memory", "disk", "data", "run folder", "weights",
    ]  # fmt: skip
    assert not (folder / "run").exists()
    assert not (folder / "cache").exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_with_its_fix(
    fault: str, folder: Path, computing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, expected = FAULTS[fault]
    plant(monkeypatch, folder)
    (wrong,) = _wrong(examine())
    assert (wrong.check, wrong.verdict) == (expected.check, expected.verdict)
    assert expected.found in wrong.found
    assert expected.fix in wrong.fix


def _only(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only these of the packages with the module decord are installed, by name and version."""
    real = installation.version

    def version(name: str) -> str:
        if name not in installation.READERS:
            return real(name)
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(installation, "version", version)


def test_eva_decord_in_place_of_decord_is_named_and_no_problem(
    folder: Path, computing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only({"eva-decord": "0.6.1"}, monkeypatch)
    line = "__version__ = '0.6.0'\nVideoReader = lambda path: [0, 0]"
    _break_module("decord", line)(monkeypatch, folder)
    findings = examine()
    assert _wrong(findings) == []
    assert Finding("decord", "eva-decord 0.6.1 reads MP4") in findings


def test_a_platform_without_wheels_of_decord_is_told_to_extract_frames(
    folder: Path, computing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only({}, monkeypatch)
    real = installation._declared
    monkeypatch.setattr(installation, "_declared", lambda *names: None if "decord" in names else real(*names))
    (wrong,) = list(installation.videos())[1:]
    assert (wrong.check, wrong.verdict) == ("decord", "warning")
    assert wrong.found.startswith("not installed: no wheel for ")
    assert "extract frames: ffmpeg -i" in wrong.fix


def test_a_run_folder_in_use_is_a_problem_and_a_stale_lock_is_none(folder: Path, computing: None) -> None:
    (folder / "run").mkdir()
    lock = folder / "run" / "lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (wrong,) = _wrong(examine())
        assert wrong.found == "run: another command is using it"
    assert _wrong(examine()) == []


def test_without_an_experiment_only_the_machine_is_checked(
    folder: Path, computing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "latte.yaml").unlink()
    checks = {finding.check for finding in examine()}
    assert {"memory", "disk"} < checks
    assert not checks & {"experiment", "data", "run folder", "weights"}


def test_a_failing_check_does_not_affect_the_others() -> None:
    def fails() -> Iterator[Finding]:
        raise RuntimeError("broken\nin two lines")

    found = run_checks({"first": fails, "second": lambda: [Finding("second", "fine")]})
    assert (found[0].check, found[0].found, found[0].verdict) == (
        "first", "the check failed: RuntimeError: broken", "problem",
    )  # fmt: skip
    assert found[1] == Finding("second", "fine")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed (SIGSEGV)"),
        ("import time; time.sleep(60)", "no answer within 1 s"),
        ("raise ImportError('libgomp.so.1')", "ImportError: libgomp.so.1"),
        ("import sys; sys.exit(3)", "exit code 3"),
    ],
)
def test_what_crashes_or_hangs_is_one_line(program: str, reason: str) -> None:
    with pytest.raises(ProbeError) as caught:
        probe(["-c", program], seconds=1 if "sleep" in program else 30)
    assert str(caught.value) == reason


def test_the_hub_is_contacted_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    try:
        (quiet,) = machine.hub(online=False)
        assert asked == []
        (answered,) = machine.hub(online=True)
        assert asked == ["/"]
    finally:
        server.shutdown()
        server.server_close()
    assert quiet.found == f"{endpoint}, a token is set; not contacted (use --online)"
    assert answered == Finding("hub", f"{endpoint}, a token is set; answers")
    (silent,) = machine.hub(online=True)
    assert silent.verdict == "warning"
    assert "does not answer: [Errno 111] Connection refused" in silent.found
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (offline,) = machine.hub(online=True)
    assert offline == Finding("hub", "offline by HF_HUB_OFFLINE; a token is set")


@pytest.mark.slow
def test_the_command_reports_what_mindspore_computes_and_writes_a_report(folder: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--report", "doctor.json"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "no problems, no warnings"
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("mindspore")]
    assert line.split()[1:] == ["ok", line.split()[2], "computes", "on", "cpu"]
    findings = json.loads((folder / "doctor.json").read_text())["findings"]
    assert {"check": "mindspore", "found": " ".join(line.split()[2:]), "verdict": "ok", "fix": ""} in findings


@pytest.mark.slow
def test_the_command_answers_where_mindspore_cannot_be_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break_module("mindspore", "raise ImportError('libmindspore_core.so: undefined symbol')")(
        monkeypatch, folder
    )
    code = "import sys; sys.modules['mindspore'] = None; from latte_cli.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--log-level", "warning"],
        capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("mindspore"))
    assert lines[place].endswith(": ImportError: libmindspore_core.so: undefined symbol")
    assert lines[place + 1].endswith(" -m pip install --force-reinstall 'mindspore<2.11,>=2.10'")
    assert lines[-1] == "1 problem, no warnings"
