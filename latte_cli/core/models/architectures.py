"""The transformer that an experiment describes, built and ready to train."""

from typing import TypeAlias

from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.latte.transformer import Latte, initialise
from latte_cli.core.models.latte_t2v import transformer as latte_t2v
from latte_cli.core.models.latte_t2v.lora import add_lora, train_only
from latte_cli.core.models.latte_t2v.transformer import LatteT2V
from latte_cli.core.models.shape import resolve_model
from latte_cli.core.models.sizes import text_to_video_shape
from latte_cli.core.settings.schema import Settings

Transformer: TypeAlias = Latte | LatteT2V


def build_model(settings: Settings, *, dtype: str = "float32") -> Transformer:
    """The transformer of an experiment, every parameter where settings.seed has it start.

    What train.part leaves alone is frozen; for part: lora the low-rank changes are added. A latte-t2v whose
    weights train.init_from holds is left at zero, since it takes all of them. `dtype` is the arithmetic of
    the blocks' matrix products. Raises LatteError as the shapes' functions do.
    """
    if settings.model.architecture == "latte":
        model = Latte(resolve_model(settings), num_timesteps=settings.diffusion.num_timesteps, dtype=dtype)
        initialise(model, settings.seed)
        return model
    train, side = settings.train, settings.data.image_size // VAE_FACTOR
    transformer = LatteT2V(text_to_video_shape(settings), size=(side, side), dtype=dtype)
    if train.init_from is None:
        latte_t2v.initialise(transformer, settings.seed)
    if train.part == "lora":
        alpha = train.lora_rank if train.lora_alpha is None else train.lora_alpha
        add_lora(transformer, rank=train.lora_rank, alpha=alpha, seed=settings.seed)
    train_only(transformer, train.part)
    return transformer
