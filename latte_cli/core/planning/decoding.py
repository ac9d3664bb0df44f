"""How a clip's latents would become frames, told without MindSpore."""

from typing import Literal

from latte_cli.core.checkpoints.autoencoder import open_autoencoder
from latte_cli.core.models.vae.memory import choose_frames, described
from latte_cli.core.planning.plan import Plan


def add_decoding(
    plan: Plan, weights: str | None, *, frames: int, size: tuple[int, int], asked: Literal["auto"] | int
) -> None:
    """A row on how many of a clip's frames of `size` pixels (height, width) are decoded at once.

    An autoencoder that cannot be opened, and frames that do not fit into the free memory, become a problem.
    """

    def add() -> None:
        shape = open_autoencoder(weights).shape
        number = min(frames, choose_frames("decoding", shape, size, asked))
        plan.add("decoding", described("decoding", shape, size, number).removeprefix("decoding "))

    plan.check(add)
