"""Which settings a run may change when it goes on, and which would make it another run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings

# What may change without changing a step: where things are, how fast they go, what is written when.
FREE = {
    "run_dir",
    "device",
    "sample",
    "bench",
    "data.root",
    "data.captions",  # what they say is in the fingerprint of the clips
    "data.workers",
    "vae.chunk_frames",
    "cache.dir",
    "cache.type",
    "train.flash_attention",
    "train.sink_mode",
    "train.recompute",
    "train.checkpoint_every",
    "train.keep",
    "train.preview_every",
    "train.validate_every",
    "train.validate_clips",
    "train.keep_best",
    "train.init_from",
    # What matters of these is their product, with the workers: see check_global_batch.
    "train.batch_size",
    "train.accumulation",
}


def changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Each setting that differs and matters, as `path was before, now after`."""
    for name in sorted(before.keys() | after.keys()):
        path = prefix + name
        old, new = before.get(name), after.get(name)
        if path in FREE or old == new or _steps_may_grow(path, after) or _only_moves(path, old, new):
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changes(old, new, path + ".")
        else:
            yield f"{path} was {old}, now {new}"


def check_unchanged(checkpoint: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raise LatteError when the settings of a checkpoint and of the run that goes on from it differ.

    A setting that the checkpoint is older than was its default.
    """
    found = list(changes(_completed(before, Settings().model_dump(mode="json")), after))
    if found:
        raise LatteError(
            f"{checkpoint}: the run was made with other settings: {'; '.join(found)}. Set them back, or go on"
            " with them by --allow-changes"
        )


def check_global_batch(checkpoint: Path, before: int, after: int) -> None:
    """Raise LatteError when a step does not take as many clips as it did."""
    if before != after:
        raise LatteError(
            f"{checkpoint}: a step took {before} clips, now train.batch_size x train.accumulation x workers"
            f" is {after}. Set them so that it is {before} again, or go on with {after} by --allow-changes"
        )


def _completed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, and the defaults of what they do not name."""
    completed = {**defaults, **values}
    for name, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(completed[name], Mapping):
            completed[name] = _completed(completed[name], default)
    return completed


def _only_moves(path: str, old: Any, new: Any) -> bool:
    """A folder to validate on changes no step; a share to hold out does."""
    return path == "data.validation" and not isinstance(old, float) and not isinstance(new, float)


def _steps_may_grow(path: str, after: Mapping[str, Any]) -> bool:
    """A longer run repeats the shorter one unless the rate falls towards the last step."""
    return path == "train.steps" and after.get("schedule") == "constant"
