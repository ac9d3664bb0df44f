"""Processes that crash after their work is done, like MindSpore's workers."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import atexit, os, signal, sys
from latte_cli.core.parallel.shutdown import note_meeting, own_exit_code
atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
with own_exit_code():
    {work}
"""


@pytest.mark.parametrize(
    ("work", "code"),
    [
        ("note_meeting(); print('done')", 0),
        ("note_meeting(); print('done'); sys.exit(143)", 143),
        ("note_meeting(); print('done'); sys.exit('a reason')", 1),
        ("note_meeting(); print('done'); raise ValueError", 1),
        ("print('done')", -signal.SIGSEGV),  # a single worker: the crash is its own
    ],
)
def test_a_connected_worker_exits_with_its_own_exit_code(work: str, code: int) -> None:
    program = PROGRAM.format(work=work)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert code < 0 or done.stdout == "done\n"


@pytest.mark.parametrize("interrupted", [True, False])
def test_an_interrupted_import_of_mindspore_does_not_change_the_exit_code(
    interrupted: bool, tmp_path: Path
) -> None:
    package = tmp_path / "mindspore"
    package.mkdir()
    (package / "part.py").touch()
    stop = "raise KeyboardInterrupt" if interrupted else ""
    (package / "__init__.py").write_text(f"import mindspore.part\n{stop}\n")
    work = "try: import mindspore\n    except KeyboardInterrupt: pass\n    print('done'); sys.exit(130)"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROGRAM.format(work=work)}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == ((130 if interrupted else -signal.SIGSEGV), "done\n")
