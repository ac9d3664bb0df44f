"""Initialise a run from other weights, possibly with other classes, frames or sizes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from latte_cli.core.models.architecture import CHANGES, Architecture, Transformer
from latte_cli.core.models.weights import load_weights


def set_start(architecture: Architecture, model: Transformer, path: Path) -> list[str]:
    """Initialise a model from a weights file or folder; returns a note on each parameter set otherwise.

    Raises LatteError if they do not fit.
    """
    return start_from(architecture, model, architecture.read(path), source=str(path))


def start_from(
    architecture: Architecture, model: Transformer, weights: Mapping[str, NDArray[Any]], *, source: str
) -> list[str]:
    """Initialise a model from `weights`, except LoRA parameters.

    Returns a note on each parameter set otherwise, see `Architecture.adapt`. Raises LatteError naming
    `source` for differences that cannot be adapted.
    """
    values = dict(weights)
    values |= {p.name: p.asnumpy() for p in model.get_parameters() if CHANGES in p.name}
    notes = architecture.adapt(model, values)
    load_weights(model, values, source=source)
    return notes
