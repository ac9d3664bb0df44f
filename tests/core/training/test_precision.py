"""The loss scale of float16, which follows PyTorch's GradScaler."""

import pytest
from pydantic import TypeAdapter, ValidationError

from latte_cli.core.training.precision import LossScale


def after(scale: LossScale, *, good: int) -> LossScale:
    """The scale after `good` steps without an overflow."""
    for _ in range(good):
        scale = scale.after(overflow=False)
    return scale


def test_a_new_scale_has_counted_no_steps() -> None:
    assert LossScale.for_dtype("float16") == LossScale(2.0**16, True, good_steps=0, dropped=0)
    assert LossScale.for_dtype("float32") == LossScale(1.0, False, good_steps=0, dropped=0)


def test_the_scale_is_halved_on_overflow_and_doubled_after_2000_good_steps() -> None:
    scale = LossScale.for_dtype("float16").after(overflow=True)
    assert scale == LossScale(2.0**15, True, good_steps=0, dropped=1)
    assert after(scale, good=1999) == LossScale(2.0**15, True, good_steps=1999, dropped=1)
    assert after(scale, good=2000) == LossScale(2.0**16, True, good_steps=0, dropped=1)
    assert after(scale, good=4000).value == 2.0**17


def test_an_overflow_resets_the_count_of_good_steps() -> None:
    scale = after(LossScale.for_dtype("float16"), good=1999).after(overflow=True)
    assert (scale.good_steps, after(scale, good=1999).value, after(scale, good=2000).value) == (
        0,
        2**15,
        2**16,
    )


def test_the_scale_is_at_most_two_to_the_24() -> None:
    assert after(LossScale(2.0**23, True, good_steps=1999), good=1).value == 2.0**24
    assert after(LossScale(2.0**24, True, good_steps=1999), good=1).value == 2.0**24


def test_float32_is_never_scaled() -> None:
    assert LossScale.for_dtype("float32").after(overflow=True) == LossScale()
    assert after(LossScale.for_dtype("bfloat16"), good=2000) == LossScale()


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_a_scale_that_is_not_positive_is_rejected(value: float) -> None:
    adapter = TypeAdapter(LossScale)
    assert adapter.validate_python({"value": 0.5}).value == 0.5
    with pytest.raises(ValidationError):
        adapter.validate_python({"value": value})
