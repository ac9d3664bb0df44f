import sys
from pathlib import Path

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.parallel.commands import Cluster, check_cluster, starts

COMMAND = ["python", "-m", "latte_cli", "train"]
TABLE = (
    '{"server_list": [{"device": [{"rank_id": "0", "device_id": "4"}, {"rank_id": "1", "device_id": "6"}]},'
    ' {"device": [{"rank_id": "2", "device_id": "0"}, {"rank_id": "3", "device_id": "1"}]}]}'
)


def test_msrun_gets_the_number_of_all_workers_and_of_local_workers(tmp_path: Path) -> None:
    cluster = Cluster(4, nodes=3, node_rank=2, master_addr="10.0.0.1", master_port=9000)
    (start,) = starts(COMMAND, cluster, tmp_path)
    assert {
        "--worker_num=12",
        "--local_worker_num=4",
        "--node_rank=2",
        "--master_addr=10.0.0.1",
        "--master_port=9000",
        "--cluster_time_out=600",
        f"--log_dir={tmp_path}",
    } < set(start.command)
    assert list(start.command[-4:]) == COMMAND
    assert list(cluster.ranks) == [8, 9, 10, 11]


def test_one_machine_uses_a_free_port_and_several_the_default_port(tmp_path: Path) -> None:
    def port(cluster: Cluster) -> int:
        (start,) = starts(COMMAND, cluster, tmp_path)
        return int(next(flag for flag in start.command if "master_port" in flag).split("=")[1])

    assert port(Cluster(2)) >= 1024
    assert port(Cluster(2, nodes=2)) == 8118


def test_mpirun_starts_all_workers_without_binding_them_to_cores(tmp_path: Path) -> None:
    (start,) = starts(COMMAND, Cluster(3, launcher="mpirun"), tmp_path)
    assert list(start.command[:6]) == ["mpirun", "-n", "3", "--oversubscribe", "--bind-to", "none"]
    assert list(start.command[-4:]) == COMMAND
    assert start.environment["MS_SCHED_HOST"] == "127.0.0.1"


def test_a_rank_table_starts_one_process_for_each_device_of_this_machine(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text(TABLE)
    cluster = Cluster(2, nodes=2, rank_table=table)
    check_cluster(cluster)
    found = [
        (start.environment["RANK_ID"], start.environment["DEVICE_ID"], start.environment["RANK_SIZE"])
        for start in starts(COMMAND, cluster, tmp_path)
    ]
    assert found == [("0", "4", "4"), ("1", "6", "4")]
    assert all(start.command[0] == sys.executable for start in starts(COMMAND, cluster, tmp_path))


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (Cluster(0), "--parallel: found 0, expected at least 1"),
        (Cluster(1, nodes=2, node_rank=2), "--node-rank: found 2 of --nodes 2, expected 0 to nodes - 1"),
        (Cluster(2, master_port=80), "--master-port: found 80, expected 1024 to 65535"),
        (
            Cluster(2, nodes=2, launcher="mpirun"),
            "--nodes: with mpirun, run the command under mpirun --hostfile FILE, without"
            " --nodes and --parallel",
        ),
    ],
)
def test_the_error_for_workers_that_cannot_be_started_names_the_flag(cluster: Cluster, message: str) -> None:
    with pytest.raises(LatteError) as caught:
        check_cluster(cluster)
    assert str(caught.value) == message


def test_a_missing_mpirun_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LatteError, match="found no mpirun on the PATH"):
        check_cluster(Cluster(2, launcher="mpirun"))


def test_a_rank_table_of_other_machines_is_rejected(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text(TABLE)
    with pytest.raises(LatteError, match=r"found 2 machines with \[2, 2\] devices, expected --nodes 1"):
        check_cluster(Cluster(4, rank_table=table))
    table.write_text(TABLE.replace('"rank_id": "1"', '"rank_id": "9"').replace("9", "2", 1))
    with pytest.raises(LatteError, match="expected 0, 1"):
        check_cluster(Cluster(2, nodes=2, rank_table=table))
