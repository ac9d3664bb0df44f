"""The files of a run's folder, and when they are written."""

import json
from pathlib import Path

from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.record import RunRecord


def settings_in(folder: Path) -> Settings:
    return load_settings(None, [("run_dir", str(folder / "run"))], command="train")


def test_a_run_writes_nothing_before_its_first_step(tmp_path: Path) -> None:
    record = RunRecord(settings_in(tmp_path), step=0)
    record.draw()
    assert list(tmp_path.iterdir()) == []
    record.add(None)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"settings.yaml", "tensorboard"}
    assert load_settings(tmp_path / "run" / "settings.yaml") == settings_in(tmp_path)
    record.add({"step": 2, "loss": 0.5, "mse": 0.4})
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["step"] == 2


def test_resuming_removes_lines_of_repeated_steps_and_temporary_files(
    tmp_path: Path,
) -> None:
    first = RunRecord(settings_in(tmp_path), step=0)
    for step in (1, 2, 3):
        first.add({"step": step, "loss": 1.0, "mse": 1.0})
    (tmp_path / "run" / "ckpt").mkdir()
    (tmp_path / "run" / "ckpt" / ".step-3.77.partial.safetensors").touch()
    again = RunRecord(settings_in(tmp_path), step=2)
    again.add({"step": 3, "loss": 2.0, "mse": 2.0})
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 1.0), (3, 2.0)]
    assert list((tmp_path / "run" / "ckpt").iterdir()) == []
