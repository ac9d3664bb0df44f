"""A tiny experiment, and small videos whose frames show their own numbers."""

import os
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import yaml
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

Frames = NDArray[np.uint8]
BITS = 8
BAR = 8  # pixels of a bar
FAST = 6.0  # seconds of processor time, of all threads and child processes, that a fast test may take
TINY: dict[str, Any] = {
    "run_dir": "run",
    "device": "cpu",
    "data": {"root": "videos", "image_size": 32, "num_frames": 2, "frame_stride": 1},
    "vae": {"weights": str(Path(__file__).parent / "golden" / "vae" / "diffusers")},
    "model": {"hidden_size": 24, "depth": 2, "num_heads": 3, "patch_size": 2},
    "train": {"batch_size": 1, "steps": 2, "log_every": 1, "dtype": "float32"},
}


def numbered_frames(count: int, first: int = 0) -> Frames:
    """Frames (count, 48, 64, 3) that show their number in binary, as black and white bars."""
    frames = np.zeros((count, 48, BITS * BAR, 3), np.uint8)
    for frame, number in zip(frames, range(first, first + count), strict=True):
        for bit in range(BITS):
            frame[:, bit * BAR : (bit + 1) * BAR] = 255 * (number >> bit & 1)
    return frames


def read_numbers(frames: Frames) -> list[int]:
    """The numbers that frames show."""
    middles = frames[:, 24, BAR // 2 :: BAR].mean(axis=-1) > 128
    return [int(row @ (1 << np.arange(BITS))) for row in middles]


def encode(path: Path, frames: Frames, *options: str) -> Path:
    """Write frames with ffmpeg and these options."""
    height, width = frames.shape[1:3]
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-y",
        "-loglevel",
        "error",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
    ]
    command += ["-s", f"{width}x{height}", "-r", "25", "-i", "-", *options, str(path)]
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, input=frames.tobytes(), check=True)
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that two processes end at the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test of the fast lane that takes too much processor time."""
    start = os.times()[:4]
    outcome = yield
    spent = sum(os.times()[:4]) - sum(start)
    if item.config.option.markexpr == "not slow" and spent > FAST:
        pytest.fail(f"took {spent:.1f} s of processor time: mark it slow, or make it smaller", pytrace=False)
    return outcome


@pytest.fixture(autouse=True)
def own_video_index(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the index of videos to a temporary folder instead of the user's cache folder."""
    folder = tmp_path_factory.getbasetemp() / "user_cache"
    monkeypatch.setattr("latte_cli.core.data.videos.index.cache_folder", lambda part: folder / part)


@pytest.fixture
def as_from_a_terminal() -> Iterator[None]:
    """Let Ctrl-C and SIGHUP reach this process and those that it starts, as & and nohup do not."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out fsync, which matters only when a machine fails and takes long."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def make_movie() -> Callable[..., Path]:
    """make_movie(path, count, *ffmpeg options): a movie whose frames show 0, 1, 2, ..."""

    def make(path: Path, count: int, *options: str) -> Path:
        return encode(path, numbered_frames(count), *(options or ("-c:v", "libx264", "-pix_fmt", "yuv420p")))

    return make


@pytest.fixture
def make_folder() -> Callable[..., Path]:
    """make_folder(path, count, first=0): a folder of PNGs whose frames show first, first + 1, ..."""

    def make(path: Path, count: int, first: int = 0) -> Path:
        path.mkdir(parents=True)
        for number, frame in enumerate(numbered_frames(count, first)):
            Image.fromarray(frame).save(path / f"frame_{number}.png")
        return path

    return make


@pytest.fixture
def numbers() -> Callable[[Frames], list[int]]:
    """numbers(frames): what frames (N, 48, 64, 3) show."""
    return read_numbers


@pytest.fixture
def numbered() -> Callable[..., Frames]:
    """numbered(count, first=0): frames that show their numbers."""
    return numbered_frames


@pytest.fixture(scope="session")
def tiny_settings() -> Callable[..., dict[str, Any]]:
    """tiny_settings(**sections): a model 24 wide of two blocks on clips of two frames, with these changes."""

    def make(**sections: Any) -> dict[str, Any]:
        return {
            name: {**TINY.get(name, {}), **value} if isinstance(value, dict) else value
            for name, value in {**TINY, **sections}.items()
        }

    return make


@pytest.fixture(scope="session")
def tiny_experiment(tiny_settings: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """tiny_experiment(**sections): `tiny_settings` as the text of an experiment file."""
    return lambda **sections: yaml.safe_dump(tiny_settings(**sections), sort_keys=False)


@pytest.fixture(scope="session")
def noise_videos() -> Callable[..., None]:
    """noise_videos(root, *names, frames=4, size=(40, 32)): folders of random PNGs, the same each time."""

    def make(root: Path, *names: str, frames: int = 4, size: tuple[int, int] = (40, 32)) -> None:
        random = np.random.default_rng(0)
        for name in names:
            (root / name).mkdir(parents=True)
            for number in range(frames):
                pixels = random.integers(0, 256, (size[1], size[0], 3), np.uint8)
                Image.fromarray(pixels).save(root / name / f"{number}.png")

    return make


@pytest.fixture
def working_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_experiment: Callable[..., str],
    noise_videos: Callable[..., None],
) -> Callable[..., Path]:
    """working_folder(*videos, **sections): a working directory with a `tiny_experiment`."""

    def make(*videos: str, **sections: Any) -> Path:
        monkeypatch.chdir(tmp_path)
        noise_videos(tmp_path / "videos", *videos)
        (tmp_path / "latte.yaml").write_text(tiny_experiment(**sections))
        return tmp_path

    return make
