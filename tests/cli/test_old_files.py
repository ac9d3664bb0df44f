"""Files written by an earlier version (tests/golden/old_files) are read correctly."""

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from latte_cli.cli import app as cli
from latte_cli.core.data.latent_cache.open import open_cache
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.settings.schema import REMOVED

GOLDEN = Path(__file__).parents[1] / "golden"
runner = CliRunner()


@pytest.fixture(scope="module", autouse=True)
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory that the files were written in."""
    folder, before = tmp_path_factory.mktemp("old") / "work", Path.cwd()
    shutil.copytree(GOLDEN / "old_files", folder)
    shutil.copytree(GOLDEN / "vae" / "diffusers", folder / "vae")
    shutil.copytree(GOLDEN / "t2v" / "pipeline", folder / "pipeline")
    with tarfile.open(folder / "mindrecord.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    os.chdir(folder)
    yield folder
    os.chdir(before)


def latte(line: str) -> Result:
    """Run a command; errors other than LatteError are raised."""
    return runner.invoke(cli.app, line.split(), catch_exceptions=False)


def test_old_experiments_and_run_settings_are_read_equal() -> None:
    experiment = load_settings(Path("experiment.yaml"), command="train")
    settings = load_settings(Path("run/settings.yaml"), command="train")
    for section in ("run_dir", "seed", "device", "data", "model", "diffusion", "train", "sample"):
        assert getattr(settings, section) == getattr(experiment, section)


def known(found: Any, expected: Any) -> Any:
    """The values found, without keys that were added later, and with keys that were removed."""
    if not isinstance(found, dict) or not isinstance(expected, dict):
        return found
    gone = {name.split(".")[-1] for name in REMOVED}
    return {
        key: value if key in gone and key not in found else known(found[key], value)
        for key, value in expected.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("sidecar", ["run/samples/000-seed5-class1", "clips/000-seed7-a-cat"])
def test_an_old_sidecar_is_replayed(sidecar: str) -> None:
    result = latte(f"sample --replay {sidecar}.json --out again")
    assert result.exit_code == 0, result.stderr
    again, before = Path("again", Path(sidecar).name), Path(sidecar)
    record = json.loads(before.with_suffix(".json").read_text())
    if record.get("lora", ...) is None:
        record["lora"] = []  # now a list of adapters, which is empty here
    assert known(json.loads(again.with_suffix(".json").read_text()), record) == record
    found, expected = (np.load(path.with_suffix(".npy")) for path in (again, before))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert again.with_suffix(".gif").exists()


@pytest.mark.parametrize("kind", ["numpy", "mindrecord"])
def test_an_old_cache_passes_verification_and_can_be_continued(kind: str) -> None:
    flags = f"-c experiment.yaml --out {kind} --type {kind} --set cache.mirror={kind == 'mindrecord'}"
    assert latte(f"cache --verify {flags}").stdout == "2 entries, all intact\n"
    again = latte(f"cache {flags}")
    assert again.stdout.splitlines()[-1] == "Saving Attempts: 0: save 0 videos, failed 0 videos."


def test_both_types_of_old_caches_return_the_same_latents() -> None:
    settings = load_settings(Path("experiment.yaml"), command="train")
    values = []
    for kind in ("numpy", "mindrecord"):
        cache = settings.cache.model_copy(update={"dir": Path(kind), "mirror": kind == "mindrecord"})
        _, source = open_cache(settings.model_copy(update={"cache": cache}))
        assert source.names == ("cats/one", "dogs/two")
        assert source.labels == (0, 1)
        values.append([source.read(video, [0, 1, 2, 3], mirror=False) for video in range(2)])
    entries = map(json.loads, Path("numpy/manifest.jsonl").read_text().splitlines())
    for entry, stored, sharded in zip(entries, *values, strict=True):
        np.testing.assert_array_equal(stored, np.load(Path("numpy", entry["file"])).astype(np.float32))
        np.testing.assert_array_equal(sharded, stored)


def test_old_cached_captions_pass_verification() -> None:
    result = latte("cache --verify -c texts.yaml")
    assert (result.stdout, result.exit_code) == ("5 entries, all intact\n", 0)


@pytest.mark.slow
def test_a_run_resumes_from_an_old_checkpoint_with_the_same_losses() -> None:
    before = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    shutil.copytree("run", "resumed")
    for path in Path("resumed/ckpt").glob("step-00000004*"):
        path.unlink()
    result = latte("train -c experiment.yaml --run-dir resumed --resume auto")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in Path("resumed/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[:2] == before[:2]
    np.testing.assert_allclose([line["loss"] for line in lines], [line["loss"] for line in before], rtol=1e-4)
