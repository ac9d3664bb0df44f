"""Launches of real workers, each in its own process as on the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.parallel.worker import lives

ROOT = Path(__file__).parents[3]
PROGRAM, START = (str(ROOT / "tests" / "parallel" / name) for name in ("program.py", "start.py"))
pytestmark = pytest.mark.slow

SECONDS = 400  # on a busy machine; a launch takes about ten
STUB_MPIRUN = """\
#!{python}
# Open MPI's, as far as our command line and the variables it sets go.
import os, subprocess, sys

count = int(sys.argv[sys.argv.index("-n") + 1])
command = sys.argv[sys.argv.index({python!r}):]
place = {{"OMPI_COMM_WORLD_SIZE": str(count), "OMPI_COMM_WORLD_LOCAL_SIZE": str(count)}}
workers = [
    subprocess.Popen(
        command,
        env={{**os.environ, **place, "OMPI_COMM_WORLD_RANK": str(n), "OMPI_COMM_WORLD_LOCAL_RANK": str(n)}},
    )
    for n in range(count)
]
sys.exit(max(worker.wait() for worker in workers))
"""


class Launched:
    """A running launch: its process, and the folders of its logs and results."""

    def __init__(self, folder: Path, what: str, **cluster: object):
        self.folder, self.logs = folder, folder / "logs"
        self.process = subprocess.Popen(
            [sys.executable, START, json.dumps(cluster), str(self.logs), PROGRAM, what, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err

    def wait_until_ready(self, *ranks: int) -> None:
        """Wait until these workers have reported it."""
        deadline = time.monotonic() + SECONDS
        while not all((self.folder / f"ready_{rank}").exists() for rank in ranks):
            assert time.monotonic() < deadline
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.1)

    def pids(self) -> dict[str, int]:
        """The workers' processes, and the scheduler's if there is one."""
        return {file.stem: int(file.read_text().split()[0]) for file in self.logs.glob("*.pid")}


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    """Launch the test program; all of its processes are stopped in the end."""
    all_of_them = []

    def launch(what: str, **cluster: object) -> Launched:
        all_of_them.append(Launched(tmp_path, what, **cluster))
        return all_of_them[-1]

    yield launch
    for one in all_of_them:
        one.process.kill()
        one.process.wait()


def means_of_two_workers() -> list[np.ndarray]:
    """The average that the program should compute, in float64."""
    generators = [np.random.default_rng(rank) for rank in (0, 1)]
    shapes: list[tuple[int, ...]] = [(3, 5), (7,), (2, 2, 2)]
    return [
        sum(g.standard_normal(shape).astype(np.float32).astype(float) for g in generators) / 2
        for shape in shapes
    ]


def check_means(folder: Path) -> None:
    """Check that both workers have the right averages with equal bits."""
    found = [list(np.load(folder / f"means_{rank}.npz").values()) for rank in (0, 1)]
    for first, second, expected in zip(*found, means_of_two_workers(), strict=True):
        assert first.shape == expected.shape
        assert np.abs(first - expected).max() < 1e-6
        assert np.array_equal(first, second)


def test_two_workers_average_gradients_and_only_the_first_reports(launched: Callable[..., Launched]) -> None:
    run = launched("average", workers=2)
    code, out, err = run.finish()
    assert (code, out, err) == (0, "mean (0.5, 0.5), facts [True, False]\n", "")
    check_means(run.folder)
    assert not any(lives(pid) for pid in run.pids().values())


@pytest.mark.slow
def test_workers_wait_for_one_that_starts_late(launched: Callable[..., Launched]) -> None:
    run = launched("late", workers=2)
    code, out, err = run.finish()
    assert (code, out, err) == (0, "mean (0.5, 0.5), facts [True, False]\n", "")
    check_means(run.folder)


def test_workers_of_mpirun_average_gradients(
    launched: Callable[..., Launched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = tmp_path / "mpirun"
    stub.write_text(STUB_MPIRUN.format(python=sys.executable))
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    code, out, _ = launched("average", workers=2, launcher="mpirun").finish()
    assert (code, out) == (0, "mean (0.5, 0.5), facts [True, False]\n")
    check_means(tmp_path)


def test_two_nodes_give_the_same_average_as_one() -> None:
    script = ROOT / "tests" / "parallel" / "two_hosts.sh"
    environment = {**os.environ, "PYTHON": sys.executable, "PORT": "18653"}
    done = subprocess.run(
        [script, "--local"], env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("the averages of both machines are right\n")


def test_a_killed_worker_ends_the_run_at_once_with_the_reason_and_the_log(
    launched: Callable[..., Launched],
) -> None:
    run = launched("wait", workers=2)
    run.wait_until_ready(0, 1)
    pids = run.pids()
    assert set(pids) == {"worker_0", "worker_1", "scheduler"}
    os.kill(pids["worker_1"], signal.SIGKILL)
    killed = time.monotonic()
    code, _, err = run.finish()
    assert time.monotonic() - killed < 20  # 0.4 s on a free machine
    assert code == 1
    assert err == f"worker 1 of 2 was killed by SIGKILL; its log: {run.logs / 'worker_1.log'}\n"
    assert not any(lives(pid) for pid in pids.values())


def test_a_stop_request_reaches_all_workers_which_save_first(
    launched: Callable[..., Launched],
) -> None:
    run = launched("wait", workers=2)
    run.wait_until_ready(0, 1)
    run.process.send_signal(signal.SIGTERM)
    code, _, err = run.finish()
    assert (code, err) == (128 + signal.SIGTERM, "")
    assert (run.folder / "saved_0").exists()
    assert (run.folder / "saved_1").exists()


def test_the_error_of_a_run_is_the_exception_of_its_worker(launched: Callable[..., Launched]) -> None:
    run = launched("raise", workers=2, collective=False)
    code, _, err = run.finish()
    log = run.logs / "worker_1.log"
    assert code == 1
    assert err.splitlines()[-1] == f"worker 1 of 2 ended: ValueError: out of luck; its log: {log}"
    assert "Traceback" in log.read_text()


def test_the_error_message_of_a_worker_is_shown(launched: Callable[..., Launched]) -> None:
    run = launched("refuse", workers=2, collective=False)
    code, _, err = run.finish()
    log = run.logs / "worker_1.log"
    said = f"data.root: found nothing, expected videos (worker 1 of 2; its log: {log})"
    assert (code, err.splitlines()[-1]) == (1, said)
    assert log.read_text().endswith("data.root: found nothing, expected videos\n")


def test_workers_end_when_their_launcher_is_killed(launched: Callable[..., Launched]) -> None:
    run = launched("sleep", workers=2, collective=False)
    run.wait_until_ready(0, 1)
    pids = run.pids().values()
    run.process.kill()
    run.process.wait()
    deadline = time.monotonic() + 20
    while any(lives(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_rank_table_assigns_devices_and_shares_of_the_cores(
    launched: Callable[..., Launched], tmp_path: Path
) -> None:
    table = tmp_path / "table.json"
    devices = [{"rank_id": "0", "device_id": "4"}, {"rank_id": "1", "device_id": "6"}]
    table.write_text(json.dumps({"server_list": [{"device": devices}]}))
    code, out, err = launched("place", workers=2, rank_table=str(table)).finish()
    assert code == 0
    assert out == "out World(rank=0, size=2, local_rank=0, launcher='rank table', is_scheduler=False)\n"
    assert err == "err 0\n"
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    shares = [cores[:half] or cores[:1], cores[half : 2 * half] or cores[:1]]
    found = [(tmp_path / f"place_{rank}").read_text() for rank in (0, 1)]
    assert found == [f"4 {shares[0]}", f"6 {shares[1]}"]
