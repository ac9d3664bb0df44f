"""Settings that may and may not change when a run is resumed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings

# Settings that do not affect training steps: locations, speed, and which files are written when.
FREE = {
    "run_dir",
    "device",
    "sample",
    "bench",
    "data.root",
    "data.captions",  # their contents are in the fingerprint of the clips
    "data.workers",
    "vae.chunk_frames",
    "cache.dir",
    "cache.type",
    "train.flash_attention",
    "train.sink_mode",
    "train.jit_level",
    "train.max_device_memory",
    "train.recompute",
    "train.shard_optimizer",
    "train.checkpoint_every",
    "train.keep",
    "train.preview_every",
    "train.validate_every",
    "train.validate_clips",
    "train.keep_best",
    "train.tracker",
    "train.init_from",
    # Only their product with the number of workers matters: see check_global_batch.
    "train.batch_size",
    "train.accumulation",
}


def changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Each relevant setting that differs, as `path was before, now after`."""
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
    """Raise LatteError if the settings of a checkpoint and of the resumed run differ.

    Settings that did not exist when the checkpoint was written are assumed to have been the default.
    """
    found = list(changes(_completed(before, Settings().model_dump(mode="json")), after))
    if found:
        raise LatteError(
            f"{checkpoint}: the run has other settings: {'; '.join(found)}. Restore them, or use"
            " --allow-changes"
        )


def check_global_batch(checkpoint: Path, before: int, after: int) -> None:
    """Raise LatteError if the number of clips per step has changed."""
    if before != after:
        raise LatteError(
            f"{checkpoint}: the global batch was {before}, now train.batch_size x train.accumulation x"
            f" workers is {after}. Restore {before}, or use --allow-changes"
        )


def _completed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, completed with defaults."""
    completed = {**defaults, **values}
    for name, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(completed[name], Mapping):
            completed[name] = _completed(completed[name], default)
    return completed


def _only_moves(path: str, old: Any, new: Any) -> bool:
    """A folder to validate on changes no step; a share to hold out does."""
    return path == "data.validation" and not isinstance(old, float) and not isinstance(new, float)


def _steps_may_grow(path: str, after: Mapping[str, Any]) -> bool:
    """Whether train.steps may grow: not if the learning rate decays towards the last step."""
    return path == "train.steps" and after.get("schedule") == "constant"
