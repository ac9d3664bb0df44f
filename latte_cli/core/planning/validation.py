"""The clips that a run validates on, for plans."""

from collections.abc import Sequence
from typing import NamedTuple

from latte_cli.core.data.clips.part import split
from latte_cli.core.data.videos.find import scan
from latte_cli.core.planning.plan import SCAN_SECONDS
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.clips import naming_validation, validation_settings


class HeldOut(NamedTuple):
    """The number of videos held out of training, and a description of the validation."""

    held_out: int
    text: str


def validation_of(settings: Settings, names: Sequence[str]) -> HeldOut | None:
    """The validation of a run on the named videos; None if it has none.

    Raises LatteError like training.
    """
    wanted, train = settings.data.validation, settings.train
    if wanted is None:
        return None
    held_out = 0
    if isinstance(wanted, float):
        held_out = len(split(names, wanted)[1])
        text = f"{held_out:,} of {len(names):,} videos held out"
    else:
        with naming_validation():
            found = scan(validation_settings(settings).data, seconds=SCAN_SECONDS)
        videos = len(found.videos) - len(found.opened.left_out)
        text = f"{wanted}: {videos:,} video{'' if videos == 1 else 's'}"
    loss = "no loss: train.validate_every is 0"
    if train.validate_every:
        loss = f"{train.validate_clips} clips every {train.validate_every} steps"
    return HeldOut(held_out, f"{text}; {loss}")
