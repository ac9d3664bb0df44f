"""The tables of a benchmark as text."""

from typing import Any

import pytest

from latte_cli.cli.tables import show_comparison, table, train_cells

ASKED = {"cards": 1, "recompute": False, "sink": True, "cache": True, "batch": 2, "frames": 16}
ENTRY: dict[str, Any] = {
    **ASKED,
    "step_seconds": {"median": 0.5125, "low": 0.5, "high": 0.625},
    "images_per_second": 62.44,
    "peak_bytes": 3_200_000_000,
    "compile_seconds": 14.25,
}


def test_a_row_shows_the_settings_and_the_results() -> None:
    assert train_cells(ENTRY) == [
        *("1", "off", "on", "on", "2", "16"),
        *("0.512 s (0.5-0.625)", "62.4", "3.20 GB", "14.2 s"),
    ]


def test_a_table_with_a_sharded_row_has_a_column_for_it() -> None:
    assert train_cells({**ENTRY, "cards": 2, "shard": True}, sharded=True)[:4] == ["2", "on", "off", "on"]


def test_an_unsupported_switch_is_reported_instead_of_a_number() -> None:
    cells = train_cells({**ASKED, "problem": "not on this device"})
    assert cells[6:] == ["not on this device", "", "", ""]


def test_a_long_reason_follows_its_row() -> None:
    reason = "killed, for example because memory ran out"
    lines = list(table(["Batch", "Step time", "", "", ""], [["1", "failed", "", "", "", reason]]))
    assert lines[-1].endswith(f"|  |  |  | {reason}")


def test_columns_are_aligned() -> None:
    assert list(table(["A", "Long"], [["10", "1"]])) == ["|  A | Long |", "|---:|-----:|", "| 10 |    1 |"]


def test_a_comparison_names_changes_and_shows_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    ratios = {"step": 0.5, "memory": 1.0}
    entry = {"kind": "train", "cards": 1, "cache": True, "ratios": ratios}
    show_comparison({"differences": ["cores: 2, now 4"], "comparison": [entry]})
    assert capsys.readouterr().out == (
        "changed: cores: 2, now 4\ntrain cards 1, cache on: step x0.50, memory x1.00\n"
    )
