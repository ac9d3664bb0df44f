"""Every shipped experiment loads, states its command, and has a plan; the schema matches the settings."""

import json
import re
import shlex
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from typer.testing import CliRunner

from latte_cli.cli import app as cli
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.models.architectures import sizes_of
from latte_cli.core.planning.runs import train_plan
from latte_cli.core.settings.json_schema import schema_text

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request: pytest.FixtureRequest) -> Path:
    """One shipped experiment."""
    return Path(request.param)


def test_an_experiment_loads_and_its_model_has_a_size(config: Path) -> None:
    settings = load_settings(config, command="train")
    assert sizes_of(settings).parameters() > 0
    load_settings(config, command="sample")


def test_an_experiment_starts_with_its_command_and_names_the_schema(config: Path) -> None:
    command, schema = config.read_text().splitlines()[:2]
    assert shlex.split(command) == ["#", "latte", "train", "-c", f"configs/{config.name}"]
    assert schema == "# yaml-language-server: $schema=latte.schema.json"


def test_an_experiment_writes_to_a_run_folder_of_its_own_name(config: Path) -> None:
    assert load_settings(config).run_dir == Path("runs") / config.stem


def test_a_plan_of_an_experiment_names_only_paths_as_missing(config: Path) -> None:
    for problem in train_plan(load_settings(config, command="train")).problems:
        missing = ("no such folder", "no such file or folder", "no such folder: run latte cache first")
        assert problem.endswith(missing)


def test_a_dry_run_of_an_experiment_prints_its_plan(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["train", "-c", str(config), "--dry-run"], catch_exceptions=False)
    settings = load_settings(config)
    clips = settings.train.batch_size * settings.train.accumulation
    assert f"clips per step {clips} of {settings.data.num_frames} frames" in " ".join(result.stdout.split())
    assert result.exit_code == (config.stem != "demo")  # the others need their data


def test_the_package_contains_the_experiments_and_their_schema() -> None:
    packaged = {file.name: file.read_text() for file in (files("latte_cli") / "configs").iterdir()}
    assert packaged == {path.name: path.read_text() for path in (ROOT / "configs").iterdir()}


def test_experiments_are_listed_with_a_sentence_and_printed_in_full() -> None:
    listed = CliRunner().invoke(cli.app, ["configs"], catch_exceptions=False)
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [path.stem for path in CONFIGS]
    assert all(line.endswith(".") for line in listed.stdout.splitlines())
    assert re.search(r"^sky +SkyTimelapse, unconditional \(Ma et al\. 2024\)\.$", listed.stdout, re.M)
    for path in CONFIGS:
        for name in (path.stem, path.name):
            printed = CliRunner().invoke(cli.app, ["configs", name], catch_exceptions=False)
            head, rest = printed.stdout.split("latte.schema.json\n", 1)
            first, schema = head.split("$schema=")
            assert (printed.exit_code, f"{first}$schema=latte.schema.json\n{rest}") == (0, path.read_text())
            named = Path(unquote(urlsplit(f"{schema}latte.schema.json").path))
            assert named.read_text() == (ROOT / "configs" / "latte.schema.json").read_text()


def test_the_error_for_an_unknown_experiment_lists_the_shipped_ones() -> None:
    result = CliRunner().invoke(cli.app, ["configs", "skyy"], catch_exceptions=False)
    assert result.exit_code == 1
    names = ", ".join(path.stem for path in CONFIGS)
    assert result.stderr == f"unknown experiment skyy; expected one of {names}\n"


def test_the_json_schema_matches_the_settings() -> None:
    shipped = json.loads((ROOT / "configs" / "latte.schema.json").read_text())
    assert shipped == json.loads(schema_text()), "python -m latte_cli.core.settings.json_schema writes it"
