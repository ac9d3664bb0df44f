"""Estimates of time, compared with written-out arithmetic."""

from pathlib import Path

import pytest

from latte_cli.core.planning import timing
from latte_cli.core.planning.autoencoder import decoding_flops
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.timing import Part, add_time, decoding, hashing, starting
from latte_cli.core.planning.units import duration
from latte_cli.core.storage import digests

SPEED = 100e9


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "processor_speed", lambda: SPEED)


def test_the_time_of_a_step_is_its_operations_divided_by_the_reached_speed() -> None:
    plan = Plan()
    add_time(plan, 5, 200e9, "step", share=0.5)
    assert plan.rows == [("time", "0.2 TFLOP per step; on this processor roughly 4 s per step, 20 s for 5")]


def test_other_parts_are_named_and_added_to_the_total() -> None:
    plan = Plan()
    others = (Part("start", 2.0), Part("decoding", 7.4), Part("writing", 0.1))
    add_time(plan, 5, 200e9, "pass", share=0.5, others=lambda: others)
    text = "4 s per pass, 30 s for 5 with start 2 s, decoding 7.4 s"
    assert plan.rows == [("time", f"0.2 TFLOP per pass; on this processor roughly {text}")]


def test_the_time_to_load_grows_with_the_model() -> None:
    one, two = starting(1_000_000), starting(1_001_000_000)
    assert two.seconds - one.seconds == pytest.approx(4e9 * timing.LOADING)


def test_only_files_without_a_known_digest_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "SETTLED_NS", 0)
    monkeypatch.setattr(timing, "HASHING", 1e-6)
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(20_000_000))
    assert hashing([weights]) == (Part("digests", 20.0),)
    digests.digest_of_files([weights])
    assert hashing([weights]) == ()
    weights.write_bytes(bytes(21_000_000))
    assert hashing([weights]) == (Part("digests", 21.0),)


def test_decoding_counts_the_operations_of_each_layer_at_its_size() -> None:
    shapes = {
        "post_quant_conv.weight": (4, 4, 1, 1),
        "decoder.conv_in.weight": (8, 4, 3, 3),
        "decoder.conv_in.bias": (8,),
        "decoder.mid_block.attentions.0.to_q.weight": (8, 8),
        "decoder.up_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3),
        "decoder.up_blocks.0.upsamplers.0.conv.weight": (8, 8, 3, 3),
        "decoder.up_blocks.2.resnets.1.conv_shortcut.weight": (4, 8, 1, 1),
        "decoder.up_blocks.2.upsamplers.0.conv.weight": (4, 4, 3, 3),
        "decoder.up_blocks.3.resnets.0.temporal_res_block.conv1.weight": (4, 4, 3, 1, 1),
        "decoder.conv_out.weight": (3, 4, 3, 3),
        "decoder.time_conv_out.weight": (3, 3, 3, 1, 1),
        "encoder.conv_out.weight": (8, 8, 3, 3),
    }
    eighth, quarter, half, full = 8 * 4, 16 * 8, 32 * 16, 64 * 32
    products = (
        (4 * 4 + 8 * 4 * 9 + 8 * 8 + 8 * 8 * 9) * eighth
        + 8 * 8 * 9 * quarter
        + 4 * 8 * half
        + (4 * 4 * 9 + 4 * 4 * 3 + 3 * 4 * 9 + 3 * 3 * 3) * full
    )
    assert decoding_flops(shapes, 64, 32) == 2 * products
    assert decoding(shapes, 3, (64, 32)).seconds == pytest.approx(6 * products / SPEED / timing.DECODING)


def test_a_duration_is_shown_in_the_largest_unit_that_is_at_least_two() -> None:
    texts = [duration(seconds) for seconds in (0.0123, 9.96, 12.3, 104.0, 150.0, 7200.0, 200_000.0)]
    assert texts == ["0.012 s", "10 s", "12 s", "104 s", "2.5 min", "2 h", "2.31 days"]
