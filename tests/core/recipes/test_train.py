"""Runs that fail before their first step, and two runs in one folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.recipes import train
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.lock import only_run


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


def test_a_second_run_in_the_same_folder_at_the_same_time_is_rejected(settings: Settings) -> None:
    with only_run(settings.run_dir, "latte train"), pytest.raises(LatteError) as caught:
        list(train.run(settings))
    assert str(caught.value) == f"{settings.run_dir}: another latte train is running in this folder"
