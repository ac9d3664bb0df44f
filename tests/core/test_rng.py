import numpy as np
import pytest

from latte_cli.core.rng import Stream, draw

# Every recorded seed and every resumed run depends on these numbers. The last column is
# Generator(Philox(SeedSequence([7, number, 3, 1]))).integers(2**32), by NumPy 1.26.
STREAMS = [
    ("ORDER", 0, 4_261_321_390),
    ("CROP", 1, 1_486_107_419),
    ("FLIP", 2, 1_114_583_813),
    ("LATENT", 3, 1_336_047_431),
    ("TIMESTEP", 4, 2_991_709_317),
    ("NOISE", 5, 2_866_054_898),
    ("DROPOUT", 6, 450_118_975),
    ("CAPTION", 7, 1_166_082_597),
    ("IMAGE", 8, 1_573_533_667),
    ("SAMPLE", 9, 2_179_361_326),
    ("INIT", 10, 4_111_854_695),
    ("STORED", 11, 1_020_210_472),
    ("EVALUATE", 12, 3_021_997_598),
    ("VALIDATION", 13, 441_685_544),
]


@pytest.mark.parametrize(("name", "number", "value"), STREAMS)
def test_the_draws_of_each_stream_are_fixed(name: str, number: int, value: int) -> None:
    assert Stream[name] == number
    philox = np.random.Philox(np.random.SeedSequence([7, number, 3, 1]))
    assert np.random.Generator(philox).integers(2**32) == value
    assert draw(7, Stream[name], 3, 1).integers(2**32) == value


def test_the_recorded_draws_include_every_stream() -> None:
    assert [(stream.name, int(stream)) for stream in Stream] == [row[:2] for row in STREAMS]


def test_draws_do_not_depend_on_earlier_draws() -> None:
    first = draw(7, Stream.NOISE, 3, 1).standard_normal(5)
    draw(7, Stream.NOISE, 3, 2).standard_normal(100)
    np.testing.assert_array_equal(first, draw(7, Stream.NOISE, 3, 1).standard_normal(5))


def test_other_seeds_and_counters_give_other_numbers() -> None:
    keys = [(7, Stream.NOISE, 3, 1), (8, Stream.NOISE, 3, 1), (7, Stream.NOISE, 1, 3), (7, Stream.NOISE, 3)]
    values = {float(draw(*key).standard_normal()) for key in keys}
    assert len(values) == len(keys)
