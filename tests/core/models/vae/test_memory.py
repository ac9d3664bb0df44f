"""The number of frames computed at once, and errors before the computation starts."""

import pytest

from latte_cli.core.checkpoints.autoencoder import AutoencoderShape
from latte_cli.core.errors import LatteError
from latte_cli.core.models.vae import memory
from latte_cli.core.models.vae.memory import (
    OVERHEAD,
    bytes_per_frame,
    choose_frames,
    frames_at_once,
    temporal_bytes,
)

SHAPE = AutoencoderShape((128, 256, 512, 512), layers_per_block=2)
GB = 10**9


def test_the_values_of_a_frame_are_those_of_the_widest_block() -> None:
    pixels = 512 * 256
    assert bytes_per_frame("decoding", SHAPE, 512, 256) == 4 * pixels * (256 + 256 + 128 + 128)
    assert bytes_per_frame("encoding", SHAPE, 512, 256) == 4 * pixels * 4 * 128


@pytest.mark.parametrize(
    ("side", "free", "number"),
    [(64, 64, 16), (256, 64, 4), (512, 64, 1), (256, 1.7, 4), (256, 0.9, 2), (256, 0.1, 1)],
)
def test_more_memory_allows_more_frames_at_once(
    monkeypatch: pytest.MonkeyPatch, side: int, free: float, number: int
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: int(free * GB))
    a_frame = bytes_per_frame("decoding", SHAPE, side, side)
    assert frames_at_once("auto", a_frame) == number
    assert frames_at_once(7, a_frame) == 7


def test_the_error_for_too_little_memory_suggests_sizes_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    a_frame = bytes_per_frame("decoding", SHAPE, 512, 512)
    monkeypatch.setattr(memory, "free_memory", lambda: OVERHEAD + 3 * a_frame)
    assert choose_frames("decoding", SHAPE, (512, 512), 3) == 3
    with pytest.raises(LatteError) as caught:
        choose_frames("decoding", SHAPE, (512, 512), 16)
    assert str(caught.value) == (
        "vae.chunk_frames: decoding 16 frames of 512 x 512 pixels at a time: about 13 GB; 2.5 GB are free:"
        " expected at most 3, or auto"
    )
    monkeypatch.setattr(memory, "free_memory", lambda: OVERHEAD + a_frame - 1)
    with pytest.raises(LatteError, match=r"0\.93 GB are free: expected frames of at most 256 x 256 pixels$"):
        choose_frames("decoding", SHAPE, (512, 512), "auto")


def test_the_formula_of_the_temporal_decoder_is_close_to_the_measured_memory() -> None:
    # Growth of a process with Stable Diffusion's widths, 14 frames of 256 pixels: `decoder(zeros)`.
    assert temporal_bytes((128, 256, 512, 512), 14, 256, 256) == pytest.approx(0.848e9, rel=0.1)
