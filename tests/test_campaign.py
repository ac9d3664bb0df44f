"""`make campaign`: its table, from scripts that stand in for the parts."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PAGE = """# Robustness

<!-- begin of the table -->
| part | result | processor time |
| --- | --- | ---: |
| `load` | 2 held | 5 min 3 s |
| `files` | 9 held | 9 s |
<!-- end of the table -->

After it.
"""


@pytest.fixture
def campaign() -> ModuleType:
    """The program."""
    file = Path(__file__).parent / "hostile" / "__main__.py"
    spec = importlib.util.spec_from_file_location("campaign_program", file)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def run(
    campaign: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, parts: dict[str, str], *flags: str
) -> int:
    """The exit code of the program with a line of Python in place of these parts, and with flags."""
    for name, line in parts.items():
        script = folder / f"{name}.py"
        script.write_text(line)
        monkeypatch.setitem(campaign.PARTS, name, campaign.Part(script))
    monkeypatch.setattr(sys, "argv", ["hostile", *flags])
    return int(campaign.main())


def test_the_rows_of_the_parts_that_ran_are_replaced_and_the_others_stay(
    campaign: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    parts = {"files": "print('ok    a'); print('ok    b'); print('2 cases')", "stops": "print('ok    c')"}
    flags = ("--only", "stops", "--only", "files", "--table", str(page))
    assert run(campaign, monkeypatch, tmp_path, parts, *flags) == 0
    expected = PAGE.splitlines()
    expected[5:7] = ["| `files` | 2 held | 0 s |", "| `stops` | 1 held | 0 s |", expected[5]]
    assert page.read_text().splitlines() == expected


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("print('ok    a'); print('FAILS b: why'); exit(1)", "1 of 2 FAIL"),
        ("print('ok    a'); raise ValueError", "FAILS"),
        ("print('nothing was tried')", "FAILS"),
    ],
)
def test_a_part_that_fails_says_so_in_its_row(
    line: str, result: str, campaign: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    flags = ("--only", "load", "--table", str(page))
    assert run(campaign, monkeypatch, tmp_path, {"load": line}, *flags) == 1
    assert f"\n| `load` | {result} | 0 s |\n" in page.read_text()


def test_durations_are_minutes_and_seconds(campaign: ModuleType) -> None:
    assert [campaign.minutes(seconds) for seconds in (0.4, 59.6, 61, 3600)] == [
        *("0 s", "1 min 0 s", "1 min 1 s", "60 min 0 s")
    ]
