"""Errors of an experiment file name the setting, what was found, and what was expected."""

from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import ValidationError

from latte_cli.core.settings.messages import LONGEST_PATH, Fault, faults_of, known_keys, nearest
from latte_cli.core.settings.schema import Settings


def faults(values: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values)
    return [str(fault) for fault in faults_of(caught.value)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"seed": "x"}, 'seed: found "x", expected an integer, at least 0, at most 9223372036854775807'),
        ({"train": {"steps": 0}}, "train.steps: found 0, expected an integer, at least 1"),
        ({"model": {"depth": 0}}, "model.depth: found 0, expected an integer, at least 2, or null"),
        ({"train": {"clip_norm": -1}}, "train.clip_norm: found -1, expected a number, more than 0, or null"),
        (
            {"train": {"dtype": "int8"}},
            'train.dtype: found "int8", expected one of float32, float16, bfloat16',
        ),
        ({"train": {"recompute": 3}}, "train.recompute: found 3, expected true or false"),
        ({"data": 5}, "data: found 5, expected keys and values"),
    ],
)
def test_the_error_names_an_invalid_value_and_what_is_expected(values: Any, expected: str) -> None:
    assert faults(values) == [expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model": {"dpth": 4}}, "model.dpth: unknown key; did you mean model.depth?"),
        ({"depth": 4}, "depth: unknown key; did you mean model.depth?"),
        ({"sead": 4}, "sead: unknown key; did you mean seed?"),
    ],
)
def test_the_error_for_an_unknown_key_suggests_the_nearest_one(values: Any, expected: str) -> None:
    assert faults(values) == [expected]


def test_the_error_for_an_unusual_key_lists_the_keys_of_its_section() -> None:
    (found,) = faults({"bench": {"zzzzzz": 1}})
    assert found == f"bench.zzzzzz: unknown key; expected one of {', '.join(Settings().bench.model_dump())}"


def test_each_error_is_reported_once() -> None:
    found = faults({"seed": "x", "train": {"steps": "many", "dtype": 7}})
    assert sorted(line.partition(":")[0] for line in found) == ["seed", "train.dtype", "train.steps"]


def test_the_known_keys_are_those_of_a_written_experiment() -> None:
    def paths(values: dict[str, Any], prefix: str = "") -> Iterable[str]:
        for name, value in values.items():
            yield prefix + name
            if isinstance(value, dict):
                yield from paths(value, f"{prefix}{name}.")

    assert sorted(known_keys()) == sorted(paths(Settings().model_dump()))


def test_the_nearest_key_is_searched_in_its_own_section_first() -> None:
    assert nearest("sample.step", ["train.steps", "sample.steps"]) == "sample.steps"
    assert nearest("train.step", ["train.steps", "sample.steps"]) == "train.steps"
    assert nearest("x" * (LONGEST_PATH + 1), ["x" * LONGEST_PATH]) is None


def test_a_long_path_is_shortened_to_one_line() -> None:
    assert str(Fault("a" * 1000, "unknown key")) == f"{'a' * 100}...: unknown key"
    assert str(Fault("", "not YAML")) == "not YAML"
