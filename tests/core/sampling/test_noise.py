"""Noise from a file instead of the clips' seeds."""

from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.sampling.noise import initial_latents, read_noise
from latte_cli.core.sampling.spec import ClipSpec


def spec(path: Path | None, row: int) -> ClipSpec:
    return ClipSpec(name="a", seed=1, row=row, initial_latents=path, sha256={}, formats=("mp4",))


def test_noise_of_another_shape_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "noise.npy"
    np.save(path, np.zeros((1, 2, 4, 8, 8), np.float32))
    assert read_noise(path, (2, 4, 8, 8)).shape == (1, 2, 4, 8, 8)
    with pytest.raises(LatteError) as refusal:
        read_noise(path, (3, 4, 8, 8))
    assert str(refusal.value) == f"{path}: found noise of shape (1, 2, 4, 8, 8), expected (N, 3, 4, 8, 8)"


def test_each_clip_uses_its_row_of_the_noise(tmp_path: Path) -> None:
    path = tmp_path / "noise.npy"
    noise = np.random.default_rng(0).standard_normal((2, 1, 4, 8, 8), np.float32)
    np.save(path, noise)
    first, second = initial_latents([spec(path, 1), spec(path, 0)], (1, 4, 8, 8))
    np.testing.assert_array_equal(first, noise[1])
    np.testing.assert_array_equal(second, noise[0])
    assert initial_latents([spec(None, 0)], (1, 4, 8, 8)) == [None]
    with pytest.raises(LatteError) as refusal:
        initial_latents([spec(path, 2)], (1, 4, 8, 8))
    assert str(refusal.value) == f"{path}: found noise of 2 clips, expected row 2"


def test_an_invalid_noise_file_gives_a_one_line_error(tmp_path: Path) -> None:
    empty, archive, words = (tmp_path / name for name in ("empty.npy", "noise.npz", "words.npy"))
    empty.touch()
    np.savez(archive, np.zeros((1, 2, 4, 8, 8)))
    np.save(words, np.full((1, 2, 4, 8, 8), "x"))
    expected = {
        empty: "cannot be read as a .npy of noise: No data left in file",
        archive: "found an archive of arrays, expected a .npy of noise",
        words: "found values of type <U1, expected floating-point noise",
    }
    for path, reason in expected.items():
        with pytest.raises(LatteError) as refusal:
            read_noise(path, (2, 4, 8, 8))
        assert str(refusal.value) == f"{path}: {reason}"
