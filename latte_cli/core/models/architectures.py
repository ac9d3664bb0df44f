"""The table of architectures, and the transformer that an experiment describes."""

from latte_cli.core.models.architecture import Architecture, Transformer
from latte_cli.core.models.latte.architecture import LatteArchitecture
from latte_cli.core.models.latte_t2v.architecture import LatteT2VArchitecture
from latte_cli.core.models.sizes import Sizes
from latte_cli.core.settings.schema import Settings

ARCHITECTURES: dict[str, Architecture] = {"latte": LatteArchitecture(), "latte-t2v": LatteT2VArchitecture()}


def architecture_of(settings: Settings) -> Architecture:
    """The row of the table that model.architecture names."""
    return ARCHITECTURES[settings.model.architecture]


def sizes_of(settings: Settings) -> Sizes:
    """The sizes of an experiment's transformer. Raises LatteError as the architecture's function does."""
    return architecture_of(settings).sizes(settings)


def build_model(settings: Settings, *, dtype: str = "float32") -> Transformer:
    """The transformer of an experiment, every parameter where settings.seed has it start.

    What train.part leaves alone is frozen; where low-rank changes are trained, they are added. `dtype` is the
    arithmetic of the blocks' matrix products. Raises LatteError as the architecture's functions do.
    """
    from latte_cli.core.models.lora import add_lora, train_only

    architecture, train = architecture_of(settings), settings.train
    model = architecture.build(settings, dtype=dtype)
    if train.trains_lora:
        alpha = train.lora_rank if train.lora_alpha is None else train.lora_alpha
        add_lora(model, rank=train.lora_rank, alpha=alpha, seed=settings.seed)
    train_only(model, architecture.parts[train.part])
    return model
