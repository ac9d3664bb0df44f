import numpy as np

from latte_cli.core.rng import Stream, draw


def test_a_draw_depends_on_seed_purpose_and_counters_alone() -> None:
    first = draw(7, Stream.NOISE, 3, 1).standard_normal(5)
    draw(7, Stream.NOISE, 3, 2).standard_normal(100)
    np.testing.assert_array_equal(first, draw(7, Stream.NOISE, 3, 1).standard_normal(5))


def test_other_seeds_purposes_and_counters_give_other_draws() -> None:
    keys = [(7, Stream.NOISE, 3, 1), (8, Stream.NOISE, 3, 1), (7, Stream.CROP, 3, 1), (7, Stream.NOISE, 1, 3)]
    values = {float(draw(*key).standard_normal()) for key in keys}
    assert len(values) == len(keys)
