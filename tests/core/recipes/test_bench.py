"""The benchmark of a tiny model, and its output for rows that it cannot measure."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from latte_cli.cli.app import app
from latte_cli.core.bench import rows as bench_rows
from latte_cli.core.bench.rows import Row, parse_rows
from latte_cli.core.bench.sources import choose_source
from latte_cli.core.bench.synthetic import text_states
from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.recipes import bench
from latte_cli.core.settings.schema import Settings

TINY: dict[str, Any] = {"vae": {"weights": None}, "bench": {"steps": 2, "warmup_steps": 1}}
BASE = Row(cards=1, recompute=False, sink=False, cache=True, batch=1, frames=2)
NO_VAE = 'vae.weights: not set; expected a file, a diffusers folder, or "demo"'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_experiment: Callable[..., str]) -> Path:
    """A working directory with a tiny experiment without data or autoencoder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latte.yaml").write_text(tiny_experiment(**TINY))
    return tmp_path


@pytest.mark.slow
def test_a_benchmark_reports_rows_that_cannot_be_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual(monkeypatch, replace(BASE, batch=2), replace(BASE, sink=True))
    result = CliRunner().invoke(app, ["bench", "--out", "bench.json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(Path("bench.json").read_text())

    plain, sunk = found["train"]
    assert plain["data"] == "synthetic moments (cache.dir is not set)"
    assert plain["step_seconds"]["count"] == 2
    assert plain["images_per_second"] == pytest.approx(2 * 2 / plain["step_seconds"]["median"])
    assert plain["compile_seconds"] > plain["step_seconds"]["median"]
    assert plain["peak_bytes"] > 10**8
    assert sunk["problem"] == "not on this device"
    assert "step_seconds" not in sunk
    assert found["encode"] == [{"problem": NO_VAE}]
    (sampler,) = found["sample"]
    assert (sampler["sampler"], sampler["steps"], sampler["decode_seconds"]) == ("ddim", 4, None)
    assert sampler["video_seconds"] == pytest.approx(4 * sampler["step_seconds"]["median"])
    assert {"processor", "cores", "memory_bytes", "system", "python", "mindspore", "mindone", "latte"} <= set(
        found["machine"]
    )
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")
    lines = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "Cards", "Recompute", "Dataset sink mode", "Embedding cache", "Batch", "Frames", "Step time",
        "Train imgs/s", "Peak memory", "Compile",
    ]  # fmt: skip
    assert "not on this device" in lines[3]


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_sampling_is_measured_with_the_same_share_of_full_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    usual(monkeypatch)
    flags = ["--set", "sample.steps=8", "--set", "sample.full_steps=4", "--out", "bench.json"]
    result = CliRunner().invoke(app, ["bench", *flags])
    assert result.exit_code == 0, result.stderr
    (sampler,) = json.loads(Path("bench.json").read_text())["sample"]
    assert (sampler["full_steps"], sampler["steps"], sampler["step_seconds"]["count"]) == (2, 4, 4)
    assert sampler["video_seconds"] == pytest.approx(4 * sampler["step_seconds"]["mean"])
    row = next(line for line in result.stdout.splitlines() if "ddim" in line)
    assert [cell.strip() for cell in row.strip("|").split("|")][:2] == ["ddim", "2 of 4"]


def usual(monkeypatch: pytest.MonkeyPatch, *rows: Row) -> None:
    """Make a benchmark without --row measure these rows, and one sampler at 4 steps."""
    monkeypatch.setattr(bench_rows, "usual_rows", lambda _: list(rows))
    monkeypatch.setattr(bench, "USUAL_STEPS", {"ddim": 4})


@pytest.mark.usefixtures("folder")
def test_only_the_given_rows_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[str] = []

    def measure(kind: str, _settings: Settings, **_: Any) -> dict[str, Any]:
        kinds.append(kind)
        return {"device": "cpu", "problem": "not measured"} if kind != "machine" else {"device": "cpu"}

    monkeypatch.setattr(bench, "_measured", measure)
    settings = load_settings(command="bench")
    rows = parse_rows(["cache=on"], settings)
    *_, last = bench.run(settings, rows, rows_alone=True)
    assert kinds == ["machine", "train"]
    assert last.found is not None
    assert (len(last.found["train"]), last.found["encode"], last.found["sample"]) == (1, [], [])
    kinds.clear()
    deque(bench.run(settings, rows), maxlen=0)
    assert kinds == ["machine", "train", *["sample"] * 3], "there is no autoencoder to encode with"


def test_the_kind_of_data_of_each_row_is_shown_with_the_reason(tmp_path: Path) -> None:
    def text(cached: bool, **values: Any) -> str:
        return choose_source(Settings.model_validate(values), cached=cached).text

    (tmp_path / "videos").mkdir()
    data, cache = {"root": tmp_path / "videos"}, {"dir": tmp_path / "cache"}
    assert text(False, data=data) == f"videos of {tmp_path}/videos"
    assert text(False) == "synthetic frames (data.root is not set)"
    assert text(False, data={"root": tmp_path / "x"}) == (
        f"synthetic frames (data.root {tmp_path}/x does not exist)"
    )
    assert text(True, data=data) == "synthetic moments (cache.dir is not set)"
    assert text(True, cache=cache) == f"synthetic moments (cache.dir {tmp_path}/cache does not exist)"
    (tmp_path / "cache").mkdir()
    assert text(True, cache=cache) == f"cache {tmp_path}/cache"
    memory = {"in_memory": True}
    vae = {"weights": "demo"}
    assert text(True, data=data, cache=memory, vae=vae) == f"videos of {tmp_path}/videos, encoded into memory"
    assert text(True, data=data, cache=memory) == "synthetic moments (cache.dir is not set)"


@pytest.mark.usefixtures("folder")
def test_rows_of_frames_without_an_autoencoder_are_rejected_before_measuring() -> None:
    result = CliRunner().invoke(app, ["bench", "--row", "cache=off"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{NO_VAE}, or rows with cache=on\n"


def test_the_row_of_a_failed_worker_has_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WORKER", "latte_cli.no_such_module")
    entry = bench._row(parse_rows([], Settings())[1], Settings(), "cpu", None)
    assert entry["problem"].startswith("ended with code 1: ")
    assert "latte_cli.no_such_module" in entry["problem"]


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}'])
def test_a_file_that_is_not_a_benchmark_is_rejected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(LatteError, match=r"--compare: .*old\.json: "):
        bench.read(path)


@pytest.mark.slow
def test_a_text_model_is_measured_on_synthetic_states_and_the_output_mentions_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tiny_experiment: Callable[..., str]
) -> None:
    usual(monkeypatch, BASE)
    model = {"architecture": "latte-t2v", "condition": "text", "num_heads": 2}
    changes = {"model": model, "sample": {"guidance_scale": 2}}
    (folder / "latte.yaml").write_text(tiny_experiment(**TINY, **changes))
    result = CliRunner().invoke(app, ["bench", "--out", "bench.json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(Path("bench.json").read_text())
    (row,), (sampler,) = found["train"], found["sample"]
    assert (row["text"], sampler["text"]) == ("synthetic states", "synthetic states")
    assert row["step_seconds"]["median"] > 0
    assert sampler["video_seconds"] == pytest.approx(4 * sampler["step_seconds"]["median"])
    assert "text: synthetic states\n" in result.stdout


def test_synthetic_states_have_the_shape_of_encoder_states() -> None:
    model = {"condition": "text", "hidden_size": 24, "depth": 2, "num_heads": 2, "patch_size": 2}
    assert text_states(Settings.model_validate({"model": model})).shape == (77, 768)
    states = text_states(Settings.model_validate({"model": model | {"architecture": "latte-t2v"}}))
    assert states.shape == (120, 4097)
    np.testing.assert_array_equal(states[:, -1], 1)
