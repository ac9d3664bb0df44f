"""Plans reject sizes that do not fit on any machine, and accept those that fit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.machine import memory
from latte_cli.core.machine.memory import machine_memory
from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.planning import room
from latte_cli.core.planning.cost import training_memory
from latte_cli.core.planning.room import check_folder, check_memory, check_training_memory
from latte_cli.core.planning.runs import sample_plan, train_plan
from latte_cli.core.planning.units import bytes_of
from latte_cli.core.settings.training import TrainSettings

SHAPE = LatteShape(hidden_size=24, depth=2, num_heads=3, patch_size=2, sample_size=8, num_frames=4)


@pytest.mark.parametrize(
    ("setting", "value", "starts"),
    [
        ("model.depth", 10**6, "model: training takes at least "),
        ("train.batch_size", 10**12, "train.batch_size: a step of 1000000000000 takes at least "),
        ("data.image_size", 8192, "train.batch_size: a step of 8 takes at least "),
    ],
)
def test_the_error_for_impossible_sizes_shows_the_available_memory(
    setting: str, value: int, starts: str, tmp_path: Path
) -> None:
    settings = load_settings(None, [(setting, value), ("run_dir", str(tmp_path))], command="train")
    problems = train_plan(settings).problems
    assert len(problems) == 1
    assert problems[0].startswith(starts)
    assert f"this machine has {bytes_of(machine_memory())}, and an accelerator 512 GB at most" in problems[0]


def test_sampling_a_model_that_does_not_fit_in_memory_is_rejected(tmp_path: Path) -> None:
    settings = load_settings(None, [("model.depth", 10**7), ("run_dir", str(tmp_path))], command="sample")
    assert sample_plan(settings).problems[0].startswith("sampling takes at least ")


def test_on_a_cpu_the_memory_of_the_machine_is_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = TrainSettings(batch_size=2, dtype="float32")
    fixed = training_memory(SHAPE, train).total - training_memory(SHAPE, train).activations
    # Two blocks of 2 clips x 4 frames x 16 tokens: the input, queries, keys, values, attended, and 4 widths.
    least = fixed + 4 * 2 * (2 * 4 * 16) * (1 + 3 + 1 + 4) * 24
    monkeypatch.setattr(room, "machine_memory", lambda: least)
    check_training_memory(SHAPE, train, "cpu")
    monkeypatch.setattr(room, "machine_memory", lambda: least - 1)
    check_training_memory(SHAPE, train, "auto")
    with pytest.raises(
        LatteError, match=r"^train\.batch_size: a step of 2 takes at least .* has [\d.]+ kB: lo"
    ):
        check_training_memory(SHAPE, train, "cpu")
    monkeypatch.setattr(room, "machine_memory", lambda: fixed - 1)
    with pytest.raises(LatteError, match=r"^model: training takes at least"):
        check_training_memory(SHAPE, train, "cpu")


def test_in_a_container_its_memory_is_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("limit", "1000\n"), ("none", "max\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CGROUP_LIMITS", [str(tmp_path / name) for name in ("limit", "none", "gone")])
    assert machine_memory() == 1000
    with pytest.raises(LatteError, match=r"it takes at least 1 kB of memory; this machine has 1 kB: lower x"):
        check_memory("it takes", 1001, "cpu", lower="x")


def test_a_folder_that_cannot_be_created_or_written_is_rejected_and_nothing_is_left(tmp_path: Path) -> None:
    check_folder("run_dir", tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for place, fault in (
        (tmp_path / "file", "is a file, expected a folder"),
        (tmp_path / "file" / "x", f"{tmp_path}/file: is a file, expected a folder"),
        (Path("/proc/x/y"), "/proc: cannot be written to: "),
    ):
        with pytest.raises(LatteError) as caught:
            check_folder("run_dir", place)
        assert str(caught.value).startswith(f"run_dir: {place}: {fault}")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_folder_without_permission_is_rejected(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from latte_cli.core.planning.room import check_folder;"
        "os.setgid(65534); os.setuid(65534); check_folder('run_dir', Path(sys.argv[1]))"
    )
    tmp_path.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "run"], capture_output=True, text=True, check=False
    )
    assert f"run_dir: {tmp_path}/run" in done.stderr
    assert "cannot be written to: Permission denied" in done.stderr


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (25.3e9, "25.3 GB"), (5.3e15, "5 PB")]
)
def test_byte_counts_are_printed_with_a_readable_unit(number: float, text: str) -> None:
    assert bytes_of(number) == text
