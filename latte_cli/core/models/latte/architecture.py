"""The architecture latte: class-conditional, text-conditional by CLIP, or unconditional."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.mapping import LazyWeights, load_latte
from latte_cli.core.data.captions.states import MAX_TOKENS
from latte_cli.core.errors import found
from latte_cli.core.models.architecture import Architecture, Transformer
from latte_cli.core.models.latte.presets import PRESETS
from latte_cli.core.models.latte.shape import TEXT_FEATURES, LatteShape, resolve_model
from latte_cli.core.settings.messages import Fault
from latte_cli.core.settings.schema import Settings

if TYPE_CHECKING:
    from latte_cli.core.models.latte.transformer import Latte

LABELS = "y_embedder.embedding_table.weight"
CONDITION = ("y_embedder.", "text_embedding_projection.")
# The position tables are computed, not learned, so they can be replaced by tables of another size.
POSITIONS = {"pos_embed": "image size", "temp_embed": "number of frames"}


class LatteArchitecture(Architecture):
    """See `models.latte.transformer`."""

    presets = MappingProxyType(PRESETS)
    preset_names = "Latte-XL, -L, -B or -S with /2, /4 or /8"
    text_kind = "clip"
    layout = "latte"

    def faults(self, settings: Settings, command: str | None) -> Iterator[Fault]:
        """Text conditions apply to videos only, and the convolution does not support bfloat16."""
        model = settings.model
        if model.condition == "text" and settings.data.use_image_num and command in ("train", "cache"):
            text = found(settings.data.use_image_num, "0 for condition: text of architecture: latte")
            yield Fault("data.use_image_num", text, ("model.condition", "model.architecture"))
        if settings.train.dtype == "bfloat16" and model.patch_embedder == "conv" and command == "train":
            text = found("conv", "linear, for train.dtype: bfloat16")
            yield Fault("model.patch_embedder", text, ("train.dtype", "model.architecture"))

    def sizes(self, settings: Settings) -> LatteShape:
        return resolve_model(settings)

    def text_width(self, settings: Settings) -> int:
        return TEXT_FEATURES // MAX_TOKENS["clip"]

    def build(self, settings: Settings, *, dtype: str = "float32") -> "Latte":
        from latte_cli.core.models.latte.transformer import Latte

        model = Latte(resolve_model(settings), num_timesteps=settings.diffusion.num_timesteps, dtype=dtype)
        self.initialise(model, settings.seed)
        return model

    def shell(self, settings: Settings, checkpoint: Path) -> "Latte":
        from latte_cli.core.models.latte.transformer import Latte

        return Latte(resolve_model(settings), num_timesteps=settings.diffusion.num_timesteps)

    def initialise(self, model: Transformer, seed: int) -> None:
        from latte_cli.core.models.latte.transformer import initialise

        initialise(model, seed)

    def read(self, path: Path) -> Mapping[str, NDArray[Any]]:
        return LazyWeights(load_latte(path))

    def adapt(self, model: Transformer, weights: dict[str, NDArray[Any]]) -> list[str]:
        """Adapts to other classes, another number of frames and another image size."""
        return list(_adapt(model, weights))


ARCHITECTURE = LatteArchitecture()


def _adapt(model: Transformer, values: dict[str, NDArray[Any]]) -> Iterator[str]:
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
            continue  # fits, or load_weights reports the mismatch
        elif name in POSITIONS:
            values[name] = parameter.asnumpy()
            places = f"{shape[1]} places, not {found.shape[1]}"
            yield f"{name}: recomputed for another {POSITIONS[name]}: {places}"
        elif name == LABELS:
            values[name], note = _labels(found, parameter.asnumpy())
            yield f"{name}: {note}"


def _labels(found: NDArray[Any], fresh: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Resize the label table; the last row, of the null label, stays the last."""
    before, after = len(found) - 1, len(fresh) - 1
    kept = min(before, after)
    table = np.concatenate([found[:kept], fresh[kept:-1], found[-1:]])
    if after > before:
        return table, f"classes {before} to {after - 1} newly initialised, {before} has the null label"
    return table, f"classes {after} to {before - 1} left out"
