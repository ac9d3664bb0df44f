"""The decoding of latents, for plans. Does not import MindSpore."""

from typing import Literal

from latte_cli.core.checkpoints.autoencoder import open_autoencoder
from latte_cli.core.models.vae.memory import choose_frames, described
from latte_cli.core.planning.plan import Plan


def add_decoding(
    plan: Plan, weights: str | None, *, frames: int, size: tuple[int, int], asked: Literal["auto"] | int
) -> None:
    """Add a row on how many of a clip's frames of `size` pixels (height, width) are decoded at once.

    An autoencoder that cannot be opened, or frames that do not fit into memory, become a problem of the plan.
    """

    def add() -> None:
        shape = open_autoencoder(weights).shape
        number = min(frames, choose_frames("decoding", shape, size, asked))
        plan.add("decoding", described("decoding", shape, size, number).removeprefix("decoding "))

    plan.check(add)
