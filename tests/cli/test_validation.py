"""The validation loss from the command line: which clips it uses and where it is written."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from typer.testing import CliRunner, Result

from latte_cli.cli import app as cli
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.training.clips import open_run_clips
from tests.core.models.text.small_clip import save_clip

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = f"""
run_dir: run
device: cpu
data: {{root: videos, image_size: 32, num_frames: 2, frame_stride: 1, validation: 0.3}}
vae: {{weights: {GOLDEN / "vae" / "diffusers"}}}
model: {{hidden_size: 24, depth: 2, num_heads: 3, patch_size: 2, condition: class, num_classes: 2}}
train: {{batch_size: 2, steps: 4, log_every: 3, dtype: float32, learning_rate: 1e-2,
        validate_every: 2, validate_clips: 5}}
"""
TEXTS = """
text: {encoder: clip}
model: {hidden_size: 24, depth: 2, num_heads: 3, patch_size: 2, condition: text}
"""
HELD_OUT = ("a/2", "a/3", "b/6")  # the SHA-256 of their names begins below 0.3 of the maximum
SECONDS = 300  # on a busy machine

pytestmark = pytest.mark.slow


def latte(line: str) -> Result:
    return CliRunner().invoke(cli.app, line.split(), catch_exceptions=False)


def refused(line: str) -> str:
    """The last line of a command's stderr."""
    result = latte(line)
    assert result.exit_code == 1
    (error,) = result.stderr.splitlines()
    return error


def losses(run_dir: str) -> dict[int, float]:
    lines = [json.loads(line) for line in Path(run_dir, "metrics.jsonl").read_text().splitlines()]
    assert all("loss" in line and "mse" in line for line in lines)
    return {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with eight videos of two classes, each with a caption, and a run on them."""
    folder, random = tmp_path_factory.mktemp("validation"), np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rows = []
        for number in range(8):
            name = f"{'ab'[number // 4]}/{number}"
            Path("videos", name).mkdir(parents=True)
            for frame in range(4):
                pixels = random.integers(0, 256, (32, 40, 3), np.uint8)
                Image.fromarray(pixels).save(Path("videos", name, f"{frame}.png"))
            rows.append({"video": name, "caption": [f"clip {number}", f"a clip {number}"]})
        Path("captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        save_clip(Path("clip"), width=768, heads=2, layers=1)
        Path("latte.yaml").write_text(TINY)
        Path("texts.yaml").write_text(TINY.replace("root: videos", "root: videos, captions: captions.jsonl"))
        without_model = [line for line in Path("texts.yaml").read_text().splitlines() if line[:6] != "model:"]
        Path("texts.yaml").write_text("\n".join(without_model) + TEXTS)
        result = latte("train")
        assert result.exit_code == 0, result.stderr
        assert "validation " in result.stderr
        yield folder


@pytest.mark.usefixtures("folder")
def test_validation_is_in_the_metrics_the_events_and_the_plan() -> None:
    assert list(losses("run")) == [2, 4]
    lines = [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert lines == [2, 3, 4]
    content = next(Path("run/tensorboard").iterdir()).read_bytes()
    found, place = {}, 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 8], "little")
        event = Event.FromString(content[place + 12 : place + 12 + length])
        found |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
        place += length + 16
    for step, loss in losses("run").items():
        assert found[step, "validation_loss"] == pytest.approx(loss, rel=1e-6)
    plan = latte("train --run-dir other --dry-run").stdout.splitlines()
    assert "validation       3 of 8 videos held out; 5 clips every 2 steps" in plan
    assert "steps per epoch  2.5: 4 steps are 1.6 epochs" in plan


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("kind", "dtype", "within"), [("numpy", "float32", 1e-6), ("mindrecord", "float16", 2e-3)]
)
def test_validation_losses_are_the_same_from_a_cache_and_from_memory(
    kind: str, dtype: str, within: float
) -> None:
    made = f"--set cache.type={kind} --set cache.dtype={dtype}"
    assert latte(f"cache --out latents-{kind} {made}").exit_code == 0
    assert latte(f"train --cache latents-{kind} --run-dir {kind} {made}").exit_code == 0
    assert latte(f"train --run-dir memory-{kind} --set cache.in_memory=true").exit_code == 0
    expected = list(losses("run").values())
    np.testing.assert_allclose(list(losses(kind).values()), expected, rtol=within)
    np.testing.assert_allclose(list(losses(f"memory-{kind}").values()), expected, rtol=1e-6)


@pytest.mark.usefixtures("folder")
def test_a_validation_folder_of_the_same_videos_gives_the_same_losses() -> None:
    """Videos and classes have the same names as before, so that the clips are the same."""
    shutil.copytree("videos", "apart/training")
    for name in HELD_OUT:
        shutil.move(f"apart/training/{name}", f"apart/validation/{name}")
    apart = "--data apart/training --set data.validation=apart/validation"
    assert latte(f"train {apart} --run-dir apart-run").exit_code == 0
    assert losses("apart-run") == losses("run")
    exact = "--set cache.dtype=float32"
    assert latte(f"cache {apart} --out apart/latents {exact}").exit_code == 0
    assert latte(f"train {apart} --cache apart/latents --run-dir apart-cached {exact}").exit_code == 0
    np.testing.assert_allclose(list(losses("apart-cached").values()), list(losses("run").values()), rtol=1e-6)


def test_two_workers_have_the_validation_losses_of_one(folder: Path) -> None:
    command = "train --run-dir two --parallel 2 --set train.batch_size=1"
    done = subprocess.run(
        [sys.executable, "-m", "latte_cli", *command.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(list(losses("two").values()), list(losses("run").values()), rtol=1e-5)


@pytest.mark.usefixtures("folder")
def test_validation_with_captions_is_the_same_encoded_or_from_a_cache() -> None:
    exact = "--set cache.dtype=float32"
    assert latte("train -c texts.yaml --run-dir texts").exit_code == 0
    assert latte(f"cache -c texts.yaml --out texts-latents {exact}").exit_code == 0
    assert latte(f"train -c texts.yaml --run-dir texts-cached --cache texts-latents {exact}").exit_code == 0
    np.testing.assert_allclose(
        list(losses("texts-cached").values()), list(losses("texts").values()), rtol=1e-5
    )


@pytest.mark.usefixtures("folder")
def test_a_split_without_training_or_validation_videos_gives_a_one_line_error() -> None:
    assert refused("train --run-dir new --set data.validation=0.001") == (
        "data.validation: a share of 0.001 of 8 videos leaves none to validate on:"
        " expected another share, or a folder of videos"
    )
    assert refused("train --run-dir new --set data.validation=0.999").endswith(
        "leaves none to train on: expected another share, or a folder of videos"
    )
    assert refused("train --run-dir new --set data.validation=nowhere") == (
        "data.validation: nowhere: no such folder"
    )
    assert refused("train --run-dir new --set data.validation=videos/a") == (
        "data.validation: videos/a: is in data.root videos, whose videos are trained on: expected a folder"
        " outside of it"
    )
    Path("empty").mkdir()
    assert refused("train --run-dir new --set data.validation=empty").startswith(
        "data.validation: empty: contains no videos; expected folders of images"
    )
    shutil.copytree("videos/a/0", "others/c/0")
    assert refused("train --run-dir new --set data.validation=others") == (
        "data.validation: c/0: has class c, which no video of training has"
    )
    assert not Path("new").exists()


@pytest.mark.usefixtures("folder")
def test_a_validation_folder_uses_the_class_numbers_of_training() -> None:
    shutil.copytree("videos/b/7", "only-b/b/7")
    settings = load_settings(overrides=[("data.validation", "only-b")], command="train")
    clips = open_run_clips(settings)
    assert clips.validation is not None
    assert (clips.validation.names, clips.validation.labels) == (("b/7",), (1,))


@pytest.mark.usefixtures("folder")
def test_a_run_can_resume_with_another_validation_interval_but_not_another_split() -> None:
    shutil.copytree("run", "resumed")
    resume = "train --run-dir resumed --steps 5 --resume auto"
    assert "data.validation was 0.3, now 0.5" in refused(f"{resume} --set data.validation=0.5")
    assert latte(f"{resume} --set train.validate_every=1").exit_code == 0
    assert list(losses("resumed")) == [2, 4, 5]
