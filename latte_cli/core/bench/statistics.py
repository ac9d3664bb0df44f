"""Medians and spread of times, and comparison of two benchmarks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from latte_cli.core.storage.json_files import Model


@dataclass(frozen=True)
class Spread:
    """Seconds: the median of `count` steps, the quartiles around it, and the mean."""

    median: float
    low: float
    high: float
    count: int
    mean: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        """Compute the spread of measured seconds."""
        low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
        return cls(float(median), float(low), float(high), len(seconds), float(np.mean(seconds)))


# The compared figures of an entry, and their paths in it.
COMPARED: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "step": ("step_seconds", "median"),
        "imgs/s": ("images_per_second",),
        "memory": ("peak_bytes",),
        "compile": ("compile_seconds",),
    },
    "encode": {"frames/s": ("frames_per_second",), "memory": ("peak_bytes",)},
    "sample": {"a video": ("video_seconds",), "step": ("step_seconds", "median"), "memory": ("peak_bytes",)},
}
# The fields that identify the same experiment in two benchmarks.
IDENTITY = {
    "train": ("cards", "cores", "recompute", "sink", "cache", "shard", "batch", "frames"),
    "encode": ("image_size", "chunk_frames"),
    "sample": ("sampler", "steps", "guidance_scale", "frames", "full_steps", "guidance_every"),
}


class Experiment(Model):
    """The compared part of an experiment."""

    model: dict[str, Any]


class Benchmark(Model):
    """The compared part of a file of `latte bench --out`."""

    format: Literal["latte bench 1"]
    machine: dict[str, Any]
    experiment: Experiment
    train: tuple[dict[str, Any], ...]
    encode: tuple[dict[str, Any], ...]
    sample: tuple[dict[str, Any], ...]


def compare(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The identity and the ratios new / old of each entry measured in both benchmarks.

    Entries are those of bench.json; entries that could not be measured are ignored.
    """
    found = []
    for kind, identity in IDENTITY.items():
        before = {_key(entry, identity): entry for entry in old.get(kind, ())}
        for entry in new.get(kind, ()):
            other = before.get(_key(entry, identity))
            if other is None or entry.get("problem") or other.get("problem"):
                continue
            values = {name: (_at(entry, place), _at(other, place)) for name, place in COMPARED[kind].items()}
            ratios = {name: mine / theirs for name, (mine, theirs) in values.items() if mine and theirs}
            named = {name: entry.get(name) for name in identity}
            found.append({"kind": kind, **named, "ratios": ratios})
    return found


def differences(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """Differences between two benchmarks in machine, software or model."""
    found = [
        f"{name}: {old['machine'].get(name)}, now {value}"
        for name, value in new["machine"].items()
        if old["machine"].get(name) != value
    ]
    model = new["experiment"]["model"] != old["experiment"]["model"]
    return [*found, *(["the model"] if model else [])]


def _key(entry: Mapping[str, Any], identity: Sequence[str]) -> tuple[Any, ...]:
    # Switches that earlier versions lacked were off.
    return tuple(entry.get(name) or None for name in identity)


def _at(entry: Mapping[str, Any], place: Sequence[str]) -> float | None:
    """The number at a path of an entry, or None."""
    value: Any = entry
    for name in place:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None
