from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError
from latte_cli.core.evaluate.clips import ClipSet, Item, Place, open_clips
from latte_cli.core.evaluate.frames import common_size, network_input, squares
from latte_cli.core.evaluate.protocol import Protocol

Array = NDArray[np.float64]


def weights(source: int, target: int, *, antialias: bool) -> Array:
    """(target, source): the triangle filter centred at (i + 0.5) scale - 0.5, widened by the scale or not."""
    scale = source / target
    width = max(scale, 1.0) if antialias else 1.0
    centres = (np.arange(target) + 0.5) * scale - 0.5
    if not antialias:
        centres = centres.clip(0, source - 1)
    rows = np.maximum(0, 1 - np.abs(np.arange(source) - centres[:, None]) / width)
    return np.asarray(rows / rows.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("side", [64, 256, 500])
def test_frames_for_the_network_match_a_triangle_filter(side: int, antialias: bool) -> None:
    frames = np.random.default_rng(side).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    table = weights(side, 224, antialias=antialias and side > 224)
    expected = np.einsum("yh,fhwc,xw->fcyx", table, frames / 255, table, optimize=True) * 2 - 1
    found = network_input(frames, antialias=antialias)
    assert found.dtype == np.float32
    assert (
        np.abs(found - expected).max() < 2 * side * 2**-22
    )  # positions are computed in float32, as in torch


def arrays(path: Path, *shapes: tuple[int, int]) -> ClipSet:
    for number, (height, width) in enumerate(shapes):
        np.save(path / f"{number}.npy", np.full((4, height, width, 3), number, np.uint8))
    return open_clips("--generated", path, needed=4)


def test_frames_are_resized_to_the_size_of_the_first_generated_clip(tmp_path: Path) -> None:
    clips = arrays(tmp_path, (12, 20), (24, 12), (13, 13))
    assert common_size(clips, Protocol()) == 12
    assert common_size(clips, Protocol(size=64)) == 64
    first, second, third = (Place(item, (0, 1, 2, 3)) for item in clips.items)
    for place in (first, second):
        assert squares(place, 12, Protocol(), generated=True).shape == (4, 12, 12, 3)
    assert squares(third, 12, Protocol(), generated=False).shape == (4, 12, 12, 3)
    assert squares(third, 16, Protocol(size=16), generated=True).shape == (4, 16, 16, 3)
    error = r"2.npy\[0\]: is 13x13, but the first generated clip is 12 pixels high"
    with pytest.raises(LatteError, match=error):
        squares(third, 12, Protocol(), generated=True)


def test_frames_of_the_right_size_are_unchanged(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", frames)
    place = Place(Item(tmp_path / "a.npy", 4, 0), (3, 1))
    assert np.array_equal(squares(place, 8, Protocol(), generated=True), frames[[3, 1]])
