"""Named sizes of the transformer, and the size a model section comes to."""

from typing import NamedTuple

from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import ModelSettings


class ModelSize(NamedTuple):
    """What a preset fixes; the same four numbers may be given one by one."""

    hidden_size: int
    depth: int
    num_heads: int
    patch_size: int


# Ma et al. 2024, table 1: hidden size, depth, heads.
_WIDTHS = {"XL": (1152, 28, 16), "L": (1024, 24, 16), "B": (768, 12, 12), "S": (384, 12, 6)}

PRESETS = {
    f"Latte-{name}/{patch_size}": ModelSize(*width, patch_size)
    for name, width in _WIDTHS.items()
    for patch_size in (2, 4, 8)
}

# The transformer of maxin-cn/Latte-1: 28 spatial and 28 temporal blocks.
TEXT_TO_VIDEO_PRESETS = {"Latte-1": ModelSize(1152, 56, 16, 2)}


def presets_of(model: ModelSettings) -> dict[str, ModelSize]:
    """The named sizes of the model section's architecture."""
    return TEXT_TO_VIDEO_PRESETS if model.architecture == "latte-t2v" else PRESETS


def model_size(model: ModelSettings) -> ModelSize:
    """The preset's numbers, each replaced by the model section's own where it gives one.

    Raises LatteError when the preset is unknown or a number is given by neither.
    """
    presets = presets_of(model)
    if model.preset is not None and model.preset not in presets:
        raise LatteError(f'model.preset: found "{model.preset}", wanted one of {", ".join(presets)}')
    numbers = {} if model.preset is None else presets[model.preset]._asdict()
    numbers |= model.model_dump(include=set(ModelSize._fields), exclude_none=True)
    missing = [f"model.{name}" for name in ModelSize._fields if name not in numbers]
    if missing:
        like = "Latte-XL/2 or its like" if presets is PRESETS else "Latte-1"
        raise LatteError(f"model: found no preset and no {', '.join(missing)}, wanted {like}, or all four")
    return ModelSize(**numbers)
