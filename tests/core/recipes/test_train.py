"""Runs that fail before their first step, and two runs in one folder."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.machine import device
from latte_cli.core.recipes import train
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.lock import only_run
from latte_cli.core.training.report import TrainReport


@pytest.fixture
def settings(
    tmp_path: Path, make_folder: Callable[..., Path], tiny_settings: Callable[..., dict[str, Any]]
) -> Settings:
    """An experiment on one small video."""
    make_folder(tmp_path / "videos" / "one", 9)
    data = {"root": str(tmp_path / "videos")}
    return Settings.model_validate(tiny_settings(run_dir=str(tmp_path / "runs" / "one"), data=data))


@pytest.mark.parametrize("error", [LatteError("no weights"), KeyboardInterrupt()])
def test_a_run_that_fails_before_its_first_step_leaves_no_folder(
    error: BaseException, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(train, "_trainer", fail)
    with pytest.raises(type(error)):
        list(train.run(settings))
    assert not settings.run_dir.parent.exists()


def test_a_run_chooses_its_device_as_training_needs_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its limit of memory, and where float16 overflows: other commands need neither."""

    def chosen(given: Settings) -> str:
        raise LatteError(f"a device for {given.run_dir}")

    monkeypatch.setattr(device, "use_training_device", chosen)
    with pytest.raises(LatteError, match=f"^a device for {settings.run_dir}$"):
        list(train.run(settings))


def test_a_second_run_in_the_same_folder_at_the_same_time_is_rejected(settings: Settings) -> None:
    with only_run(settings.run_dir, "latte train"), pytest.raises(LatteError) as caught:
        list(train.run(settings))
    assert str(caught.value) == f"{settings.run_dir}: another latte train is running in this folder"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "said"),
    [
        (1, "interrupted; step 1 is saved: add --resume auto to continue"),
        (2, "interrupted; the run is complete: step 2 of 2 is saved"),
    ],
)
def test_a_run_stopped_after_its_last_step_is_complete(step: int, said: str, settings: Settings) -> None:
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"steps": 2})})

    def stop_at(report: object) -> None:
        if isinstance(report, TrainReport) and report.step == step:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt) as stopped:
        list(map(stop_at, train.run(settings)))
    assert str(stopped.value) == said
