"""Loss scaling, which prevents underflow of float16 gradients (Micikevicius et al. 2018)."""

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from latte_cli.core.storage.json_files import Count

FIRST_SCALE = 2.0**16
LARGEST_SCALE = 2.0**24
GOOD_STEPS_TO_GROW = 2000  # PyTorch's GradScaler


@dataclass(frozen=True)
class LossScale:
    """The factor of the loss before the backward pass, and its history.

    It is halved on overflow, and the step is skipped; it is doubled after `GOOD_STEPS_TO_GROW` good steps.
    """

    value: Annotated[float, Field(gt=0)] = 1.0
    dynamic: bool = False
    good_steps: Count = 0
    dropped: Count = 0
    """Number of skipped steps."""

    @classmethod
    def for_dtype(cls, dtype: str) -> "LossScale":
        """Dynamic for float16; 1 for the other types, whose range is sufficient."""
        return cls(FIRST_SCALE, dynamic=True) if dtype == "float16" else cls()

    def after(self, *, overflow: bool) -> "LossScale":
        """The scale after a step, with or without overflow."""
        if not self.dynamic:
            return self
        if overflow:
            return replace(self, value=self.value / 2, good_steps=0, dropped=self.dropped + 1)
        if self.good_steps + 1 == GOOD_STEPS_TO_GROW:
            return replace(self, value=min(self.value * 2, LARGEST_SCALE), good_steps=0)
        return replace(self, good_steps=self.good_steps + 1)
