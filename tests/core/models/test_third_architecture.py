"""Adding an architecture takes one folder and one line: commands can then train, resume and sample it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import latte_cli

PACKAGE = Path(latte_cli.__file__).parent
LINE = 'ArchitectureName = Literal["latte", "latte-t2v"]'
SETTINGS = {
    "data.num_frames": "4",
    "model.architecture": "channel-mixer",
    "model.learn_sigma": "false",
    "train.batch_size": "2",
    "train.preview_every": "0",
    "train.schedule": "constant",
    "sample.steps": "3",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package with the architecture channel-mixer added."""
    shutil.copytree(PACKAGE, tmp_path / "latte_cli", ignore=shutil.ignore_patterns("__pycache__"))
    core = tmp_path / "latte_cli" / "core"
    shutil.copytree(Path(__file__).parent / "channel_mixer", core / "models" / "channel_mixer")
    schema = core / "settings" / "schema.py"
    text = schema.read_text()
    assert text.count(LINE) == 1
    schema.write_text(text.replace(LINE, LINE.replace("]", ', "channel-mixer"]')))
    return tmp_path


def latte(tree: Path, *arguments: str) -> str:
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "latte_cli", *arguments, *settings, "--run-dir", "run"]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    ended = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_adding_an_architecture_takes_a_folder_and_a_line(tree: Path) -> None:
    assert "parameters" in latte(tree, "train", "--dry-run")
    latte(tree, "train", "--steps", "2")
    latte(tree, "train", "--steps", "4", "--resume", "auto")
    checkpoints = sorted(path.name for path in (tree / "run" / "ckpt").glob("*.safetensors"))
    assert checkpoints == ["step-00000002.safetensors", "step-00000004.safetensors"]
    out = latte(tree, "sample", "--num-samples", "1", "--format", "png")
    files = [tree / line for line in out.splitlines()]
    assert files
    assert all(file.is_file() for file in files)
