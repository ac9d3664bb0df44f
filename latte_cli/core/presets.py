"""Named sizes of the transformer, and the size a model section comes to."""

from typing import NamedTuple

from latte_cli.core.errors import LatteError
from latte_cli.core.settings import ModelSettings


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


def model_size(model: ModelSettings) -> ModelSize:
    """The preset's numbers, each replaced by the model section's own where it gives one.

    Raises LatteError when the preset is unknown or a number is given by neither.
    """
    if model.preset is not None and model.preset not in PRESETS:
        raise LatteError(f'model.preset: found "{model.preset}", wanted one of {", ".join(PRESETS)}')
    numbers = {} if model.preset is None else PRESETS[model.preset]._asdict()
    numbers |= model.model_dump(include=set(ModelSize._fields), exclude_none=True)
    missing = [f"model.{name}" for name in ModelSize._fields if name not in numbers]
    if missing:
        raise LatteError(
            f"model: found no preset and no {', '.join(missing)}, wanted Latte-XL/2 or its like, or all four"
        )
    return ModelSize(**numbers)
