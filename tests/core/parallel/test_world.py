import json
from pathlib import Path

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.parallel.world import World, current_world, read_rank_table, report_failure

MSRUN = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "4", "MS_NODE_ID": "3", "DEVICE_ID": "1", "RANK_ID": "3"}
MPIRUN = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}


def rank_table(folder: Path, *servers: dict[str, str]) -> Path:
    """A file that lists each server's device ids by rank."""
    listed = [
        {
            "server_id": f"10.0.0.{n}",
            "device": [{"rank_id": rank, "device_id": device} for rank, device in server.items()],
        }
        for n, server in enumerate(servers)
    ]
    path = folder / "table.json"
    path.write_text(json.dumps({"version": "1.0", "server_count": str(len(servers)), "server_list": listed}))
    return path


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, World(0, 1, 0, None), id="nobody"),
        pytest.param(MSRUN, World(3, 4, 1, "msrun"), id="msrun"),
        pytest.param(
            {**MSRUN, "MS_ROLE": "MS_SCHED", "RANK_ID": "0"},
            World(0, 4, 0, "msrun", is_scheduler=True),
            id="msrun's scheduler",
        ),
        pytest.param(MPIRUN, World(2, 4, 0, "mpirun"), id="mpirun"),
        pytest.param({**MPIRUN, **MSRUN}, World(3, 4, 1, "msrun"), id="msrun on each of mpirun's machines"),
        pytest.param({"RANK_ID": "3", "DEVICE_ID": "1"}, World(), id="a rank without a table"),
        pytest.param({"RANK_TABLE_FILE": "absent.json"}, World(), id="a table without a rank"),
    ],
)
def test_the_rank_of_a_worker_comes_from_the_variables_of_its_launcher(
    environment: dict[str, str], expected: World
) -> None:
    assert current_world(environment) == expected


def test_the_world_size_of_a_rank_table_counts_the_devices_of_all_machines(tmp_path: Path) -> None:
    table = str(rank_table(tmp_path, {"0": "4", "1": "5"}, {"2": "4", "3": "5"}))
    assert current_world({"RANK_TABLE_FILE": table, "RANK_ID": "3"}) == World(3, 4, 1, "rank table")
    with pytest.raises(LatteError, match="found rank 4 of 4"):
        current_world({"RANK_TABLE_FILE": table, "RANK_ID": "4"})


def test_only_the_first_worker_writes() -> None:
    assert World().is_first
    assert not World(1, 2).is_first
    assert not World(0, 2, launcher="msrun", is_scheduler=True).is_first


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({**MSRUN, "MS_NODE_ID": "4"}, "msrun: found rank 4 of 4, expected 0 to size - 1"),
        ({**MSRUN, "MS_WORKER_NUM": "x"}, "MS_WORKER_NUM: found 'x' in the environment, expected a number"),
        (
            {"OMPI_COMM_WORLD_RANK": "0"},
            "OMPI_COMM_WORLD_SIZE: found None in the environment, expected a number",
        ),
    ],
)
def test_contradictory_environment_variables_are_rejected(environment: dict[str, str], message: str) -> None:
    with pytest.raises(LatteError) as caught:
        current_world(environment)
    assert str(caught.value) == message


def test_msrun_on_several_machines_requires_a_node_rank() -> None:
    unnumbered = {name: value for name, value in MSRUN.items() if name not in ("MS_NODE_ID", "RANK_ID")}
    with pytest.raises(LatteError, match="--node_rank"):
        current_world(unnumbered)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("not json", "cannot be read as JSON: .*; expected a rank table"),
        ("{}", "table.json: server_list: is missing"),
        (
            '{"server_list": [{"device": [{"rank_id": "x", "device_id": 0}]}]}',
            r"rank_id: found \"x\", expected an integer",
        ),
        ('{"server_list": []}', r"found ranks \[\], expected 0, 1, ... once each"),
        (
            '{"server_list": [{"device": [{"rank_id": 1, "device_id": 0}]}]}',
            r"found ranks \[1\], expected 0, 1",
        ),
    ],
)
def test_the_error_names_an_invalid_rank_table(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(LatteError, match=complaint):
        read_rank_table(path)
    with pytest.raises(LatteError, match=r"absent\.json: no such file"):
        read_rank_table(tmp_path / "absent.json")


def test_a_failure_is_reported_to_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LATTE_WORKER_FAILURE", raising=False)
    assert not report_failure("nobody reads it")
    monkeypatch.setenv("LATTE_WORKER_FAILURE", str(tmp_path / "worker_0.failure"))
    assert report_failure("data.root: no such folder")
    assert (tmp_path / "worker_0.failure").read_text() == "data.root: no such folder"
