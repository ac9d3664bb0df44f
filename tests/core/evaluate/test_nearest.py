from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.evaluate import nearest
from latte_cli.core.evaluate.clips import Place, open_clips
from latte_cli.core.evaluate.pixels import ssim
from latte_cli.core.evaluate.protocol import Protocol


@pytest.mark.parametrize("generated_bytes", [1, 4 * 16 * 16 * 3 * 2, 1 << 29])
def test_similarities_are_those_to_the_nearest_clip_for_any_chunk_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generated_bytes: int
) -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (7, 4, 16, 16, 3), dtype=np.uint8)
    generated = np.stack([np.clip(real[i].astype(int) + 9, 0, 255) for i in (5, 0, 3)]).astype(np.uint8)
    np.save(tmp_path / "real.npy", real)
    np.save(tmp_path / "generated.npy", generated)
    monkeypatch.setattr(nearest, "GENERATED_BYTES", generated_bytes)
    monkeypatch.setattr(nearest, "REAL_CLIPS", 2)
    places = [
        [Place(item, (0, 1, 2, 3)) for item in open_clips("", tmp_path / name, needed=4).items]
        for name in ("generated.npy", "real.npy")
    ]
    *steps, last = nearest.likenesses(*places, 16, Protocol(num_frames=4))
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == last.total
    for found, clip, which in zip(last.found, generated, (5, 0, 3), strict=True):
        error = np.square(clip.astype(float) - real[which]).mean()
        assert found.psnr == pytest.approx(10 * np.log10(255**2 / error))
        assert found.ssim == ssim(clip, real[which])
