"""Which steps are computed in full: by number, evenly spaced, or from an untrusted file."""

import json
from pathlib import Path
from typing import Any

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.sampling.calibration import (
    Calibration,
    FullSchedule,
    Setup,
    check_weights,
    full_steps_of,
    reuse_file,
    write_calibration,
)
from latte_cli.core.settings.schema import SampleSettings

SETUP = Setup(sampler="ddim", steps=6, eta=0.0, num_frames=16, height=64, width=64)
CALIBRATION = Calibration(
    weights=("a" * 64,),
    setup=SETUP,
    guidance_scale=1.0,
    seed=0,
    samples=2,
    schedules=(FullSchedule(full_steps=(0, 1, 5), error=0.25),),
)


def sample(full_steps: int | None, **changes: Any) -> SampleSettings:
    return SampleSettings.model_validate({"full_steps": full_steps, **changes})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_calibration(tmp_path / "reuse.json", CALIBRATION)
    return tmp_path / "reuse.json"


def test_all_steps_are_computed_without_a_number_and_with_the_full_number() -> None:
    assert full_steps_of(sample(None), SETUP, None) is None
    assert full_steps_of(sample(6), SETUP, None) is None


def test_the_schedule_comes_from_the_file_or_is_evenly_spaced(file: Path) -> None:
    assert reuse_file(sample(3), file.parent) == file
    assert full_steps_of(sample(3), SETUP, file) == (0, 1, 5)
    assert reuse_file(sample(3), file.parent / "other") is None
    assert reuse_file(sample(3, reuse="even"), file.parent) is None
    assert full_steps_of(sample(3), SETUP, None) == (0, 2, 4)
    assert reuse_file(sample(3, reuse="named.json"), file.parent) == Path("named.json")


def test_weights_are_compared_with_those_of_the_file(file: Path) -> None:
    check_weights(None, ("b" * 64,))
    check_weights(file, ("a" * 64,))
    with pytest.raises(LatteError, match="found a calibration of other weights"):
        check_weights(file, ("b" * 64,))


@pytest.mark.parametrize("changes", [{"sampler": "ddpm"}, {"steps": 7}, {"respacing": "ddim6"}, {"eta": 0.5},
                                     {"num_frames": 8}, {"height": 32}, {"width": 32}])  # fmt: skip
def test_the_error_names_a_sampling_setting_that_differs(file: Path, changes: dict[str, Any]) -> None:
    other = SETUP.model_copy(update=changes)
    with pytest.raises(LatteError) as refusal:
        full_steps_of(sample(3), other, file)
    assert str(refusal.value).startswith(f"{file}: {next(iter(changes))}: found ")


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ([], "schedules.0.full_steps: found a list, expected at least 1 values"),
        ([1, 2, 3], "schedules.0.full_steps: found a list, expected ascending numbers from 0"),
        ([0, 2, 2], "schedules.0.full_steps: found a list, expected ascending numbers from 0"),
        ([0, 3, 1], "schedules.0.full_steps: found a list, expected ascending numbers from 0"),
        ([0, -1, 2], "schedules.0.full_steps.1: found -1, expected at least 0"),
        ([0, 1.5, 2], "schedules.0.full_steps.1: found 1.5, expected an integer"),
        ([0, 1, 6], "full_steps: found 6, expected less than setup.steps 6"),
    ],
)
def test_an_invalid_schedule_gives_a_one_line_error(file: Path, steps: list[Any], fault: str) -> None:
    content = json.loads(file.read_text())
    content["schedules"][0]["full_steps"] = steps
    file.write_text(json.dumps(content))
    with pytest.raises(LatteError) as refusal:
        full_steps_of(sample(3), SETUP, file)
    assert str(refusal.value).startswith(f"{file}: {fault}")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "latte reuse 2"}', "[" * 10_000])
def test_a_file_of_another_kind_gives_a_one_line_error(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(LatteError) as refusal:
        full_steps_of(sample(3), SETUP, file)
    assert str(refusal.value).startswith(f"{file}: ")
    assert "\n" not in str(refusal.value)
