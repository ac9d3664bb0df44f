"""The rows of a self-test, and how computed numbers are described and compared with expected ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from latte_cli.core.arrays import Array

Results: TypeAlias = dict[str, Array]
"""What a graph computed, by name."""

KEPT = 8  # numbers of each gradient
NEGLIGIBLE = 1e-2  # a gradient of this share of the largest norm counts by its share of it


@dataclass(frozen=True)
class Row:
    """The result of a test; `error` and `allowed` are relative, where numbers are compared."""

    name: str
    verdict: Literal["ok", "failed", "not here"]
    found: str = ""
    seconds: float = 0.0
    error: float | None = None
    allowed: float | None = None


def described(gradients: dict[str, Array]) -> Results:
    """Of each gradient by name: its norm, and `KEPT` evenly spread numbers as shares of its greatest."""
    arrays = [gradients[name] for name in sorted(gradients)]
    norms = [np.linalg.norm(one.astype(np.float64)) for one in arrays]
    numbers = [one.reshape(-1)[np.linspace(0, one.size - 1, KEPT).astype(int)] for one in arrays]
    greatest = [max(float(np.abs(one).max()), 1e-30) for one in arrays]
    shares = [row / np.float32(most) for row, most in zip(numbers, greatest, strict=True)]
    return {"norms": np.array(norms, np.float32), "numbers": np.array(shares, np.float32)}


def compared(found: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The greatest relative error of all parts; infinite for numbers that are not finite.

    Of the norms of gradients each is compared by itself, of `numbers` each row by its own scale, and small
    gradients, which consist of rounding, by the scale of the largest. Raises ValueError for other names or
    shapes.
    """
    if found.keys() != expected.keys():
        raise ValueError(f"found {', '.join(found)}, expected {', '.join(expected)}")
    return max(_error(name, np.asarray(found[name], np.float64), expected) for name in expected)


def _error(name: str, values: Array, expected: Mapping[str, Array]) -> float:
    right = np.asarray(expected[name], np.float64)
    if values.shape != right.shape:
        raise ValueError(f"{name}: found shape {values.shape}, expected {right.shape}")
    if not np.isfinite(values).all():
        return float("inf")
    gap = np.abs(values - right)
    if name == "norms":
        return float((gap / np.maximum(right, NEGLIGIBLE * right.max())).max())
    if name == "numbers":
        norms = np.asarray(expected["norms"], np.float64)
        counts = np.minimum(1.0, norms / (NEGLIGIBLE * norms.max()))
        return float((gap * counts[:, None]).max())
    return float(gap.max() / max(float(np.abs(right).max()), 1e-30))
