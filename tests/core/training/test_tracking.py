"""Runs sent to Weights & Biases and SwanLab, whose packages are replaced."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.planning.runs import train_plan
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.record import RunRecord
from latte_cli.core.training.tracking import Tracker, check_tracker

LINE = {"step": 20, "loss": 0.5, "lr": 1e-3}


class FakePackage(ModuleType):
    """A replacement of wandb or swanlab that records calls; those in `fails` raise an error."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any]] = []
        self.fails: set[str] = set()

    def _note(self, call: str, value: Any) -> None:
        self.calls.append((call, value))
        if call in self.fails:
            raise ConnectionError(f"{call}: no route to host\nand more")

    def init(self, **named: Any) -> "FakePackage":
        self._note("init", named)
        return self

    def log(self, values: dict[str, Any], *, step: int) -> None:
        self._note("log", (values, step))

    def finish(self) -> None:
        self._note("finish", None)

    def Video(self, path: str, **named: Any) -> tuple[str, Any]:  # noqa: N802 (its name)
        return path, named

    def Image(self, path: str, **named: Any) -> tuple[str, Any]:  # noqa: N802
        return path, named


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], FakePackage]:
    """package(name): a replacement that is imported under that name."""

    def make(name: str) -> FakePackage:
        fake = FakePackage(name)
        monkeypatch.setitem(sys.modules, name, fake)
        return fake

    return make


def _settings(folder: Path, tracker: str) -> Settings:
    return load_settings(
        None, [("run_dir", str(folder / "run")), ("train.tracker", tracker)], command="train"
    )


@pytest.mark.parametrize(("tracker", "kind"), [("wandb", "mp4"), ("swanlab", "png")])
def test_metrics_and_previews_are_sent_at_their_steps(
    tracker: str, kind: str, tmp_path: Path, package: Callable[[str], FakePackage]
) -> None:
    fake, settings = package(tracker), _settings(tmp_path, tracker)
    sent = Tracker(settings, resumed=False)
    sent.add(LINE)
    files = [tmp_path / "step-20-a.mp4", tmp_path / "step-20-a.png"]
    sent.show(20, files)
    sent.close()
    names = [name for name, _ in fake.calls]
    assert names == ["init", "log", "log", "finish"]
    given = fake.calls[0][1]
    assert given["config"] == settings.model_dump(mode="json")
    assert given["project"] == "latte"
    assert given["resume"] == "allow"
    assert fake.calls[1][1] == ({"loss": 0.5, "lr": 1e-3}, 20)
    values, step = fake.calls[2][1]
    ((path, named),) = values["previews"]
    assert (path, named["caption"], step) == (str(tmp_path / f"step-20-a.{kind}"), "step-20-a", 20)


def test_a_resumed_run_keeps_its_id_and_a_new_run_gets_another(
    tmp_path: Path, package: Callable[[str], FakePackage]
) -> None:
    fake, settings = package("wandb"), _settings(tmp_path, "wandb")
    for resumed in (False, True, False):
        Tracker(settings, resumed=resumed)
    ids = [given["id"] for _, given in fake.calls]
    assert ids[0] == ids[1] != ids[2]
    other = package("swanlab")
    Tracker(_settings(tmp_path, "swanlab"), resumed=True)
    assert other.calls[0][1]["id"] not in ids


@pytest.mark.parametrize("call", ["init", "log", "finish"])
def test_an_error_of_the_service_gives_one_warning_and_ends_tracking(
    call: str, tmp_path: Path, package: Callable[[str], FakePackage], caplog: pytest.LogCaptureFixture
) -> None:
    fake = package("wandb")
    fake.fails = {call}
    with caplog.at_level(logging.WARNING):
        sent = Tracker(_settings(tmp_path, "wandb"), resumed=False)
        sent.add(LINE)
        sent.add({**LINE, "step": 40})
        sent.show(40, [tmp_path / "a.mp4"])
        sent.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"train.tracker: no more wandb: ConnectionError: {call}: no route to host"
    ]
    assert [name for name, _ in fake.calls].count(call) == 1


def test_a_missing_package_gives_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latte_cli.core.training.tracking.find_spec", lambda _: None)
    settings = _settings(tmp_path, "swanlab")
    line = "train.tracker: swanlab is not installed: pip install swanlab, or set it to none"
    with pytest.raises(LatteError) as caught:
        check_tracker(settings.train)
    assert str(caught.value) == line
    assert line in train_plan(settings).problems
    check_tracker(_settings(tmp_path, "none").train)


def test_a_run_without_a_tracker_sends_and_writes_nothing(tmp_path: Path) -> None:
    sent = Tracker(_settings(tmp_path, "none"), resumed=False)
    sent.add(LINE)
    sent.show(20, [tmp_path / "a.mp4"])
    sent.close()
    assert list(tmp_path.iterdir()) == []


def test_the_record_of_a_run_sends_its_lines_and_previews(
    tmp_path: Path, package: Callable[[str], FakePackage]
) -> None:
    fake = package("swanlab")
    record = RunRecord(_settings(tmp_path, "swanlab"), step=0)
    record.add(None)
    record.add({"step": 2, "loss": 0.5, "mse": 0.4})
    record.show(2, [tmp_path / "a.png"])
    record.close()
    assert [name for name, _ in fake.calls] == ["init", "log", "log", "finish"]
