"""Starting a run from other weights, where classes, frames or sizes have changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from latte_cli.core.models.architecture import CHANGES, Architecture, Transformer
from latte_cli.core.models.weights import load_weights


def set_start(architecture: Architecture, model: Transformer, path: Path) -> list[str]:
    """Set a fresh model's parameters from a file or folder of weights; gives a line on each not so set.

    Raises LatteError when they do not fit.
    """
    return start_from(architecture, model, architecture.read(path), source=str(path))


def start_from(
    architecture: Architecture, model: Transformer, weights: Mapping[str, NDArray[Any]], *, source: str
) -> list[str]:
    """Set a fresh model's parameters from `weights`; low-rank changes stay as they are.

    Gives a line on each parameter that is not so set, see `Architecture.adapt`. Raises LatteError naming
    `source` for any difference that it cannot mend.
    """
    values = dict(weights)
    values |= {p.name: p.asnumpy() for p in model.get_parameters() if CHANGES in p.name}
    notes = architecture.adapt(model, values)
    load_weights(model, values, source=source)
    return notes
