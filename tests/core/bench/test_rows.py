"""Rows as typed by a user, and the training settings of each."""

import pytest

from latte_cli.core.bench.rows import NOT_HERE, Row, lack, parse_rows
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings

EXPERIMENT = Settings.model_validate(
    {"train": {"batch_size": 5, "accumulation": 4}, "data": {"num_frames": 16}, "cache": {"dir": "cache"}}
)
KEYS = "expected recompute, sink, cache or shard = on or off, or batch or frames = a number"


def test_values_missing_in_a_row_come_from_the_experiment() -> None:
    (row,) = parse_rows(["batch=2"], EXPERIMENT)
    assert row == Row(cards=1, recompute=False, sink=False, cache=True, batch=2, frames=16)


def test_each_row_is_measured_with_each_number_of_cards() -> None:
    rows = parse_rows(["cache=on", " cache = off , frames = 4 "], EXPERIMENT, cards=[1, 4])
    assert [(row.cards, row.cache, row.frames) for row in rows] == [
        (1, True, 16),
        (1, False, 4),
        (4, True, 16),
        (4, False, 4),
    ]


def test_images_per_second_count_all_frames_on_all_cards() -> None:
    (row,) = parse_rows(["batch=3,frames=7"], EXPERIMENT, cards=[4])
    assert row.images == 4 * 3 * 7


def test_default_rows_differ_in_one_switch_each() -> None:
    rows = parse_rows([], EXPERIMENT)
    assert [(row.cache, row.recompute, row.sink) for row in rows] == [
        (False, False, False),
        (True, False, False),
        (True, True, False),
        (True, False, True),
    ]


def test_a_row_trains_one_pass_per_step_without_end_or_checkpoint() -> None:
    (row,) = parse_rows(["batch=2,frames=4"], EXPERIMENT)
    settings = row.settings(EXPERIMENT)
    assert (settings.train.batch_size, settings.data.num_frames, settings.train.accumulation) == (2, 4, 1)
    assert settings.train.steps > 10**8
    assert settings.train.checkpoint_every > 10**8


def test_a_cpu_cannot_sink_data() -> None:
    (row,) = parse_rows(["sink=on"], EXPERIMENT)
    assert lack(row, "cpu") == NOT_HERE == "not on this device"
    assert lack(row, "ascend") is None
    (row,) = parse_rows(["sink=on,cache=off"], EXPERIMENT)
    assert lack(row, "ascend") == "frames are encoded between steps: expected cache=on"


def test_a_sharded_row_requires_several_cards() -> None:
    one, two = parse_rows(["shard=on"], EXPERIMENT, cards=[1, 2])
    assert lack(one, "cpu") == "one card has no other to share with: expected --parallel 2 or more"
    assert lack(two, "cpu") is None
    assert two.settings(EXPERIMENT).train.shard_optimizer
    assert parse_rows([], two.settings(EXPERIMENT))[1].shard


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fast", f"found 'fast', {KEYS}"),
        ("depth=3", f"found 'depth=3', {KEYS}"),
        ("cache=yes", "cache: found 'yes', expected on or off"),
        ("batch=0", "batch: found '0', expected an integer, at least 1"),
        ("frames=-2", "frames: found '-2', expected an integer, at least 1"),
    ],
)  # fmt: skip
def test_an_empty_row_is_rejected(spec: str, message: str) -> None:
    with pytest.raises(LatteError) as refused:
        parse_rows([spec], EXPERIMENT)
    assert str(refused.value) == f"--row {spec}: {message}"
