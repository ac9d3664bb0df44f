"""Starting a run from other weights, where classes, frames or sizes have changed."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.mapping import load_latte, map_weights
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.digests import digest_of_files
from latte_cli.core.models.architectures import Transformer
from latte_cli.core.models.latte.transformer import Latte, load_weights
from latte_cli.core.models.latte_t2v.transformer import LatteT2V

Arrays = dict[str, NDArray[Any]]
LABELS = "y_embedder.embedding_table.weight"
CONDITION = ("y_embedder.", "text_embedding_projection.")
CHANGES = ".lora_"
# The position tables are computed, not learned: those of another number are as good as the ones trained with.
POSITIONS = {"pos_embed": "image size", "temp_embed": "number of frames"}


def set_start(model: Transformer, path: Path) -> list[str]:
    """Set a fresh model's parameters from a file or folder of weights; gives a line on each not so set.

    Raises LatteError when they do not fit.
    """
    if isinstance(model, Latte):
        return start_from(model, load_latte(path).read_all(), source=str(path))
    weights = map_weights(open_weights(path, kind="t2v"), "t2v").read_all()
    start_text_to_video(model, weights, source=str(path))
    return []


@cache
def digest_of(path: Path) -> str:
    """SHA-256 of the files that hold a text-to-video transformer's weights."""
    return digest_of_files(open_weights(path, kind="t2v").files)


def start_from(model: Latte, weights: Mapping[str, NDArray[Any]], *, source: str) -> list[str]:
    """Set a freshly initialised model's parameters from `weights`; gives a line on each that is not so set.

    Classes may be more, fewer, none or new, and frames and image size others. Raises LatteError naming
    `source` for any other difference.
    """
    values: Arrays = dict(weights)
    notes = list(_adapt(model, values))
    load_weights(model, values, source=source)
    return notes


def start_text_to_video(model: LatteT2V, weights: Mapping[str, NDArray[Any]], *, source: str) -> None:
    """Set a text-to-video transformer's parameters from `weights`; low-rank changes stay as they are.

    Raises LatteError naming `source` when the weights are of another size.
    """
    values: Arrays = dict(weights)
    values |= {p.name: p.asnumpy() for p in model.get_parameters() if CHANGES in p.name}
    load_weights(model, values, source=source)


def _adapt(model: Latte, values: Arrays) -> Iterator[str]:
    """Make `values` fit the model where that can be done."""
    parameters = {parameter.name: parameter for parameter in model.get_parameters()}
    for name in [name for name in values if name.startswith(CONDITION) and name not in parameters]:
        del values[name]
        yield f"{name}: left out, since the model has no such condition"
    for name, parameter in parameters.items():
        found, shape = values.get(name), tuple(parameter.shape)
        if found is None:
            if name.startswith(CONDITION):
                values[name] = parameter.asnumpy()
                yield f"{name}: newly initialised, since the weights have no such condition"
        elif found.ndim != len(shape) or found.shape[-1] != shape[-1] or found.shape == shape:
            continue  # fits, or load_weights says that it does not
        elif name in POSITIONS:
            values[name] = parameter.asnumpy()
            places = f"{shape[1]} places, not {found.shape[1]}"
            yield f"{name}: computed anew for another {POSITIONS[name]}: {places}"
        elif name == LABELS:
            values[name], note = _labels(found, parameter.asnumpy())
            yield f"{name}: {note}"


def _labels(found: NDArray[Any], fresh: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """The label table for another number of classes; its last row, the null label's, stays the last."""
    before, after = len(found) - 1, len(fresh) - 1
    kept = min(before, after)
    table = np.concatenate([found[:kept], fresh[kept:-1], found[-1:]])
    if after > before:
        return table, f"classes {before} to {after - 1} newly initialised, {before} taken with the null label"
    return table, f"classes {after} to {before - 1} left out"
