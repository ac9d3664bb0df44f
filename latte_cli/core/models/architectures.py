"""The table of architectures, and the transformer that an experiment describes."""

from latte_cli.core.models.architecture import Architecture, Transformer
from latte_cli.core.models.latte.architecture import LatteArchitecture
from latte_cli.core.models.latte_t2v.architecture import LatteT2VArchitecture
from latte_cli.core.models.sizes import Sizes
from latte_cli.core.settings.schema import Settings

ARCHITECTURES: dict[str, Architecture] = {"latte": LatteArchitecture(), "latte-t2v": LatteT2VArchitecture()}


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
