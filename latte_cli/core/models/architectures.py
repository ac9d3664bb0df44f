"""The table of architectures, and the transformer that an experiment describes."""

from importlib import import_module
from typing import get_args

from latte_cli.core.models.architecture import Architecture, Transformer
from latte_cli.core.models.sizes import Sizes
from latte_cli.core.settings.schema import ArchitectureName, Settings


def _find(name: str) -> Architecture:
    """`ARCHITECTURE` in `architecture.py` of the folder with this name, underscores for hyphens."""
    folder = name.replace("-", "_")
    return import_module(f"latte_cli.core.models.{folder}.architecture").ARCHITECTURE


ARCHITECTURES = {name: _find(name) for name in get_args(ArchitectureName)}


def architecture_of(settings: Settings) -> Architecture:
    """The architecture of the setting model.architecture."""
    return ARCHITECTURES[settings.model.architecture]


def sizes_of(settings: Settings) -> Sizes:
    """The sizes of an experiment's transformer. Raises LatteError like `Architecture.sizes`."""
    return architecture_of(settings).sizes(settings)


def build_model(settings: Settings, *, dtype: str = "float32") -> Transformer:
    """Build the transformer of an experiment, initialised from settings.seed.

    Parameters outside train.part are frozen; for part: lora, LoRA is added. `dtype` is the type of the
    blocks' matrix products. Raises LatteError like the methods of `Architecture`.
    """
    from latte_cli.core.models.lora import add_lora, train_only

    architecture, train = architecture_of(settings), settings.train
    model = architecture.build(settings, dtype=dtype)
    if train.trains_lora:
        alpha = train.lora_rank if train.lora_alpha is None else train.lora_alpha
        add_lora(model, rank=train.lora_rank, alpha=alpha, seed=settings.seed)
    train_only(model, architecture.parts[train.part])
    return model
