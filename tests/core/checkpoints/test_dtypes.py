import numpy as np
import pytest

from latte_cli.core.checkpoints.dtypes import DTYPES, cast, widen

FLOAT32, FLOAT64, BFLOAT16, FLOAT16 = (DTYPES[name] for name in ("float32", "float64", "bfloat16", "float16"))


def bits(*words: int) -> np.ndarray:
    return np.array(words, np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0x3F800000, 0x3F80),  # 1
        (0x3F807FFF, 0x3F80),  # just below half a step: down
        (0x3F808000, 0x3F80),  # half a step: to the even one below
        (0x3F818000, 0x3F82),  # half a step: to the even one above
        (0x3F808001, 0x3F81),  # just above half a step: up
        (0xBF808001, 0xBF81),
        (0x80000000, 0x8000),  # minus zero
        (0x00000001, 0x0000),  # smallest float32
        (0x7F7FFFFF, 0x7F80),  # largest float32: infinity
        (0x7F800000, 0x7F80),
        (0xFF800000, 0xFF80),
    ],
)
def test_bfloat16_rounds_to_nearest_even(number: int, expected: int) -> None:
    assert cast(bits(number), FLOAT32, BFLOAT16).tolist() == [expected]


@pytest.mark.parametrize("number", [0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F80FFFF])
def test_a_nan_stays_nan_in_bfloat16(number: int) -> None:
    assert np.isnan(widen(cast(bits(number), FLOAT32, BFLOAT16), BFLOAT16)).all()


def test_float64_is_rounded_once_not_twice() -> None:
    step = 2.0**-8  # half a step of bfloat16 at 1: float32 would round the tiny excess away, then tie to even
    numbers = np.array(
        [1 + step + 2.0**-40, 1 + step - 2.0**-40, 1 + 3 * step - 2.0**-40, -1 - step - 2.0**-40]
    )
    expected = [1 + 2 * step, 1.0, 1 + 2 * step, -1 - 2 * step]
    assert widen(cast(numbers, FLOAT64, BFLOAT16), BFLOAT16).tolist() == expected


def test_every_bfloat16_is_exact_in_float32_and_float64() -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    every = every[np.isfinite(widen(every, BFLOAT16))]
    for wider in (FLOAT32, FLOAT64):
        assert np.array_equal(cast(cast(every, BFLOAT16, wider), wider, BFLOAT16), every)


def test_every_float16_is_exact_in_float32() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    back = cast(cast(every, FLOAT16, FLOAT32), FLOAT32, FLOAT16)
    assert np.array_equal(back.view(np.uint16), every.view(np.uint16))


def test_a_value_too_large_for_float16_becomes_infinite() -> None:
    assert cast(np.array([65519.0, 65520.0], np.float32), FLOAT32, FLOAT16).tolist() == [65504.0, np.inf]
