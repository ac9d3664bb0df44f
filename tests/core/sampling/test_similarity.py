import numpy as np
import pytest

from latte_cli.core.sampling.similarity import nearest_psnr


def test_the_nearest_clip_is_found_and_its_psnr_is_the_formula_s() -> None:
    clips = np.stack([np.full((2, 4, 4, 3), value, np.uint8) for value in (0, 100, 200)])
    figure, which = nearest_psnr(np.full((2, 4, 4, 3), 110, np.uint8), clips)
    assert which == 1
    assert figure == pytest.approx(20 * np.log10(255 / 10))


def test_a_clip_that_was_copied_is_infinitely_near() -> None:
    clips = np.zeros((1, 2, 4, 4, 3), np.uint8)
    assert nearest_psnr(clips[0], clips) == (float("inf"), 0)
