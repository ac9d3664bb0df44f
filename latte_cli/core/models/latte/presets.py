"""Latte's named sizes."""

from latte_cli.core.checkpoints.layouts.latte import LatteDescription
from latte_cli.core.models.sizes import ModelSize

# Ma et al. 2024, table 1: hidden size, depth, heads.
_WIDTHS = {"XL": (1152, 28, 16), "L": (1024, 24, 16), "B": (768, 12, 12), "S": (384, 12, 6)}

PRESETS = {
    f"Latte-{name}/{patch_size}": ModelSize(*width, patch_size)
    for name, width in _WIDTHS.items()
    for patch_size in (2, 4, 8)
}


def preset_of(found: LatteDescription) -> str | None:
    """The preset with a checkpoint's sizes, or None; the number of heads cannot be inferred."""
    sizes = (found.hidden_size, found.depth, found.patch_size)
    names = [
        name for name, size in PRESETS.items() if (size.hidden_size, size.depth, size.patch_size) == sizes
    ]
    return names[0] if names and found.mlp_ratio == 4 else None
