"""Flags, exit codes, complete error messages, and which commands do not import MindSpore."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from latte_cli import __version__
from latte_cli.cli import app as cli
from latte_cli.cli import sample
from latte_cli.core.settings.schema import SamplerName, Settings

runner = CliRunner()
COMMON = {"--config", "--set", "--device", "--dry-run", "--log-level"}
FLAGS = {
    "convert": {
        "--source", "--target", "--kind", "--weights", "--dtype", "--to", "--report", "--force", "--pipeline-from",
        "--merge-lora",
    },
    "cache": {"--data", "--out", "--type", "--resume", "--verify", "--repair", "--overwrite", "--parallel"},
    "train": {
        "--data", "--cache", "--run-dir", "--steps", "--resume", "--allow-changes", "--parallel", "--nodes",
        "--node-rank", "--master-addr", "--master-port", "--launcher", "--rank-table",
    },
    "sample": {
        "--checkpoint", "--class-label", "--num-samples", "--sampler", "--steps", "--guidance-scale", "--seed",
        "--initial-latents", "--format", "--out", "--replay", "--run-dir", "--prompt", "--prompts-file",
        "--negative-prompt", "--pipeline", "--lora", "--num-frames", "--height", "--width", "--eta", "--dtype",
        "--parallel", "--full-steps", "--reuse", "--guidance-every",
    },
    "calibrate": {
        "--samples", "--budgets", "--pipeline", "--prompt", "--checkpoint", "--lora", "--dtype", "--num-frames",
        "--height", "--width", "--sampler", "--steps", "--guidance-scale", "--seed", "--out", "--run-dir",
    },
    "bench": {"--row", "--parallel", "--steps", "--out", "--compare"},
    "demo": {"--run-dir"},
    "evaluate": {
        "--real", "--generated", "--i3d", "--metrics", "--clips", "--num-frames", "--real-stride", "--size",
        "--draws", "--seed", "--report", "--checkpoint", "--protocol", "--antialias", "--parallel", "--run-dir",
    },
}  # fmt: skip

SECTIONS = {"vae": {"weights": "demo"}, "train": {"steps": 5}}


@pytest.fixture
def folder(working_folder: Callable[..., Path]) -> Path:
    """A working directory with a tiny experiment and one video of four frames."""
    return working_folder("one", **SECTIONS)


def test_the_flags_of_every_command_are_fixed() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    found = {
        name: {option for parameter in command.params for option in parameter.opts if option[:2] == "--"}
        for name, command in commands.items()
    }
    assert found.pop("configs") == set()  # it reads no experiment
    # It changes nothing, so it has no dry run.
    assert found.pop("doctor") == {"--online", "--report", "--self-test"} | COMMON - {"--dry-run"}
    assert found == {name: flags | COMMON for name, flags in FLAGS.items()}


def test_version_is_printed_to_stdout() -> None:
    result = runner.invoke(cli.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"latte {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--foo"], "No such option: --foo"),
        (["train", "--foo"], "No such option: --foo"),
        (["train", "--set", "steps"], "Invalid value for '--set': steps: expected KEY.PATH=VALUE, such as train.steps=100"),
        (["train", "--set", "a..b=1"], "Invalid value for '--set': a..b=1: expected KEY.PATH=VALUE, such as train.steps=100"),
        (["cache", "--resume", "-1"], "Invalid value for '--resume': -1: expected auto, or the index of a video, counted from 0"),
        (["cache", "--repair"], "Invalid value for --repair: requires --verify"),
        (["convert"], "Missing option '--source'."),
        (["sample", "--replay", "x.json", "--seed", "1"], "Invalid value for --replay: can only be combined with --out"),
    ],
)  # fmt: skip
def test_a_usage_error_gives_exit_code_2(arguments: list[str], error: str) -> None:
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: {error}\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["train", "-c", "nope.yaml"], "nope.yaml: no such file, expected an experiment file (YAML)"),
        (["train", "--set", "train.learning_rte=1"], "train.learning_rte: unknown key; did you mean train.learning_rate?"),
        (["train", "--set", "model.depth=3"], "model.depth: found 3, expected an even number: spatial and temporal blocks alternate"),
        (["train", "--set", "model.patch_size=3"], "latte.yaml: data.image_size: found 32, expected a multiple of 24: patch_size 3 x 8"),
        (["train", "--steps", "0"], "train.steps: found 0, expected an integer, at least 1"),
        (["train", "--data", "nope"], "data.root: nope: no such folder"),
        (["train", "--cache", "nope"], "cache.dir: nope: no such folder: run latte cache first"),
        (["cache"], "latte.yaml: cache.dir: not set, expected a folder for the latents"),
        (["cache", "--out", "latents", "--data", "nope"], "data.root: nope: no such folder"),
        (["cache", "--out", "latents", "--verify"], "cache.dir: latents: contains no cache: run latte cache first"),
        (["train", "--set", "vae.weights=x[red]y"], "vae.weights: x[red]y: no such file or folder"),
        (["train", "--set", 'vae.weights="\\e[31m"'], "vae.weights: \\x1b[31m: no such file or folder"),
        (
            ["train", "--set", "data.num_frames=9"],
            "data.num_frames: a clip is longer than every video: num_frames 9 x frame_stride 1 needs 10 frames; the longest, one, has 4",
        ),
        (["train", "--parallel", "2", "--nodes", "2", "--node-rank", "2"], "--node-rank: found 2 of --nodes 2, expected 0 to nodes - 1"),
        (["train", "--parallel", "2", "--rank-table", "nope.json"], "nope.json: no such file"),
        (["sample"], "run: no checkpoint found; train first or give --checkpoint"),
        (["sample", "--checkpoint", "nope.pt"], "--checkpoint: nope.pt: no such file or folder"),
        (["sample", "--set", "sample.respacing=ddim37"], 'sample.respacing: found "ddim37", expected "250", "ddim50", "10,20,30" or similar, for 1000 steps'),
        (["sample", "--class-label", "1"], "sample.class_labels: found labels, expected none for condition: none"),
        (["sample", "--replay", "nope.json"], "nope.json: no such file; expected the .json next to a sample"),
        (["convert", "--source", "nope.pt"], "nope.pt: no such file or folder"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("folder")
def test_a_user_error_is_one_line_and_exit_code_1(arguments: list[str], error: str) -> None:
    result = runner.invoke(cli.app, arguments)
    assert (result.exit_code, result.stderr, result.stdout) == (1, f"{error}\n", "")


@pytest.mark.usefixtures("folder")
def test_several_errors_are_one_line_each() -> None:
    result = runner.invoke(cli.app, ["train", "--set", "data.num_frames=0", "--set", "seed=x"])
    assert result.exit_code == 1
    assert result.stderr == (
        "latte.yaml: 2 faults\n"
        f'  seed: found "x", expected an integer, at least 0, at most {2**63 - 1}\n'
        "  data.num_frames: found 0, expected an integer, at least 1\n"
    )


@pytest.mark.usefixtures("folder")
def test_flags_override_set_and_set_overrides_the_file() -> None:
    arguments = ["train", "--dry-run", "--steps", "7", "--set", "train.steps=6", "--set", "seed=8"]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0
    assert "  steps: 7\n" in result.stdout
    assert "seed: 8\n" in result.stdout


@pytest.mark.usefixtures("folder")
def test_a_dry_run_prints_settings_and_plan_and_writes_a_picture_of_the_first_batch() -> None:
    before = set(Path().rglob("*"))
    result = runner.invoke(cli.app, ["train", "--dry-run"])
    assert (result.exit_code, result.stderr) == (0, "")
    names = [line[:16].strip() for line in result.stdout.splitlines()]
    for name in ("run_dir: run", "parameters", "memory", "time", "steps per epoch", "writes"):
        assert name in names
    assert result.stdout.splitlines()[-1].split(maxsplit=2) == [
        "first", "batch", "run/first_batch.png: 1 clip, as the model gets it",
    ]  # fmt: skip
    assert set(Path().rglob("*")) - before == {Path("run"), Path("run/first_batch.png")}


@pytest.mark.usefixtures("folder")
def test_a_dry_run_shows_the_plan_even_when_something_is_missing() -> None:
    result = runner.invoke(cli.app, ["train", "--dry-run", "--data", "nope"])
    assert (result.exit_code, result.stderr) == (1, "data.root: nope: no such folder\n")
    assert "parameters      " in result.stdout


def test_the_command_line_offers_every_sampler() -> None:
    assert get_type_hints(sample.sample)["sampler"] == SamplerName | None


@pytest.mark.usefixtures("folder")
def test_steps_on_the_command_line_override_the_respacing_of_the_file(
    tiny_experiment: Callable[..., str],
) -> None:
    Path("latte.yaml").write_text(tiny_experiment(sample={"respacing": "ddim50"}))
    result = runner.invoke(cli.app, ["sample", "--dry-run", "--steps", "20"])
    assert "sampler          ddpm, 20 steps\n" in result.stdout


@pytest.mark.usefixtures("folder")
def test_each_class_label_gives_a_clip(tiny_experiment: Callable[..., str]) -> None:
    Path("latte.yaml").write_text(tiny_experiment(model={"condition": "class", "num_classes": 9}))
    result = runner.invoke(cli.app, ["sample", "--dry-run", "--class-label", "3", "--class-label", "8"])
    assert "  num_samples: 2\n  class_labels: [3, 8]\n" in result.stdout


@pytest.mark.usefixtures("folder")
def test_ctrl_c_gives_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> Settings:
        raise KeyboardInterrupt

    monkeypatch.setattr("latte_cli.core.experiment.loading.load_settings", interrupt)
    result = runner.invoke(cli.app, ["train"])
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


@pytest.mark.usefixtures("folder")
def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object, **__: object) -> Settings:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("latte_cli.core.experiment.loading.load_settings", stumble)
    assert isinstance(runner.invoke(cli.app, ["train"]).exception, ZeroDivisionError)


def test_errors_and_help_do_not_import_mindspore(folder: Path) -> None:
    commands = [
        ["--help"],
        ["--version"],
        ["--foo"],
        ["train", "--help"],
        ["train", "--dry-run"],
        ["train", "--data", "nope"],
        ["train", "--set", "train.learning_rte=1"],
        ["train", "--set", "model.patch_size=3"],
        ["train", "--set", "model.depth=3"],
        ["train", "--set", "data.num_frames=9"],
        ["sample", "--set", "sample.respacing=ddim37"],
        ["sample"],
    ]
    script = f"""
import sys
from latte_cli.cli.app import app
for command in {commands!r}:
    try:
        app(command)
    except SystemExit:
        pass
    for heavy in ("mindspore", "mindone", "transformers", "decord"):
        assert heavy not in sys.modules, (command, heavy)
    if command in (["--help"], ["--version"], ["--foo"]):
        for light in ("numpy", "pydantic", "yaml"):
            assert light not in sys.modules, (command, light)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
