"""Rows of the table and their syntax: `recompute=on,cache=off,batch=4,frames=16`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from latte_cli.core.errors import LatteError
from latte_cli.core.machine.device import SINKING
from latte_cli.core.settings.schema import Settings

NOT_HERE = "not on this device"
SWITCHES = ("recompute", "sink", "cache", "shard")
NUMBERS = ("batch", "frames")
ON_OFF = {"on": True, "off": False}


@dataclass(frozen=True)
class Row:
    """A configuration of training: a line of the table."""

    cards: int
    """Workers, each on a separate device."""
    recompute: bool
    """Recompute activations in the backward pass."""
    sink: bool
    """Data sinking."""
    cache: bool
    """Read latents from a cache; otherwise encode frames in every step."""
    batch: int
    """Clips per worker."""
    frames: int
    """Frames per clip."""
    shard: bool = False
    """The optimizer's state is divided among the cards."""

    @property
    def images(self) -> int:
        """Frames per step, over all workers."""
        return self.cards * self.batch * self.frames

    def __str__(self) -> str:
        """The row's syntax and its number of cards."""
        switches = (f"{name}={'on' if getattr(self, name) else 'off'}" for name in SWITCHES)
        numbers = (f"{name}={getattr(self, name)}" for name in NUMBERS)
        return f"{','.join([*switches, *numbers])} on {self.cards}"

    def settings(self, settings: Settings) -> Settings:
        """The experiment with this row's settings: one forward pass per step, no checkpoints, no end."""
        values = settings.model_dump()
        values["data"] |= {"num_frames": self.frames}
        values["train"] |= {
            "batch_size": self.batch,
            "accumulation": 1,
            "recompute": self.recompute,
            "sink_mode": self.sink,
            "shard_optimizer": self.shard,
            "steps": 10**9,
            "checkpoint_every": 10**9,
            "preview_every": 0,
            "log_every": 1,  # a device is waited for only where results are logged
        }
        return Settings.model_validate(values)


def parse_rows(specs: Sequence[str], settings: Settings, *, cards: Sequence[int] = ()) -> list[Row]:
    """The rows of `--row` and `--parallel`: every spec with every number of cards; by default the usual rows.

    A spec is a comma-separated list of KEY=VALUE: recompute, sink, cache and shard are on or off, batch and
    frames are numbers. Missing keys are taken from `settings`. Raises LatteError naming the spec.
    """
    base = row_of(settings)
    rows = [_parse(spec, base) for spec in specs] or usual_rows(base)
    return [replace(row, cards=number) for number in cards or (1,) for row in rows]


def row_of(settings: Settings) -> Row:
    """The experiment itself as a row."""
    train, cache = settings.train, settings.cache
    return Row(
        cards=1,
        recompute=train.recompute,
        sink=train.sink_mode is True,
        cache=cache.dir is not None or cache.in_memory,
        batch=train.batch_size,
        frames=settings.data.num_frames,
        shard=train.shard_optimizer,
    )


def usual_rows(base: Row) -> list[Row]:
    """From frames, then from the cache: plain, with recompute, with data sinking."""
    plain = replace(base, recompute=False, sink=False, cache=True)
    return [
        replace(plain, cache=False),
        plain,
        replace(plain, recompute=True),
        replace(plain, sink=True),
    ]


def lack(row: Row, device: str) -> str | None:
    """Why a row cannot be measured on `device` (cpu, ascend, gpu), or None."""
    if row.sink and device not in SINKING:
        return NOT_HERE
    if row.sink and not row.cache:
        return "frames are encoded between steps: expected cache=on"
    if row.shard and row.cards == 1:
        return "one card has no other to share with: expected --parallel 2 or more"
    return None


def to_json(row: Row) -> dict[str, Any]:
    """The row's values by name."""
    return asdict(row)


def _parse(spec: str, base: Row) -> Row:
    values: dict[str, Any] = {}
    for part in spec.split(","):
        name, equals, text = (piece.strip() for piece in part.partition("="))
        if not equals or name not in (*SWITCHES, *NUMBERS):
            raise LatteError(
                f"--row {spec}: found {part!r}, expected recompute, sink, cache or shard = on or off, or"
                " batch or frames = a number"
            )
        if name in SWITCHES and text not in ON_OFF:
            raise LatteError(f"--row {spec}: {name}: found {text!r}, expected on or off")
        if name in NUMBERS and not (text.isdecimal() and int(text)):
            raise LatteError(f"--row {spec}: {name}: found {text!r}, expected an integer, at least 1")
        values[name] = ON_OFF[text] if name in SWITCHES else int(text)
    return replace(base, **values)
