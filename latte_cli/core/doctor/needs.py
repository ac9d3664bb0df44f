"""Checks of an experiment's needs: memory, disk, videos or a cache, weights, a run folder."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from latte_cli.core.doctor.findings import Finding
from latte_cli.core.errors import LatteError
from latte_cli.core.machine.memory import free_memory, machine_memory
from latte_cli.core.planning.plan import SCAN_SECONDS
from latte_cli.core.planning.units import bytes_of
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.hub import is_name, name_of

LITTLE_DISK = 10**9


def memory(settings: Settings | None, device: str) -> Iterator[Finding]:
    """Whether the experiment's training fits into memory, by the estimate of its plan."""
    from latte_cli.core.planning.cost import mindspore_memory, training_memory
    from latte_cli.core.planning.room import check_training_memory

    here, free = machine_memory(), free_memory()
    found = f"{bytes_of(free)} free of {bytes_of(here)}"
    if settings is None or not _has_size(settings):
        yield Finding("memory", found)
        return
    from latte_cli.core.models.architectures import sizes_of

    shape, train = sizes_of(settings), settings.train
    total = training_memory(shape, train).total + mindspore_memory(device)
    found = f"{found}; training takes about {bytes_of(total)} per worker"
    fix = (
        "lower train.batch_size (and raise train.accumulation by the same factor), --set train.recompute=true"
    )
    try:
        check_training_memory(shape, train, device)
    except LatteError as error:
        yield Finding("memory", f"{found}; {error}", "problem", fix)
        return
    if device == "cpu" and total > free:
        yield Finding("memory", found, "problem" if total > here else "warning", fix)
    else:
        yield Finding("memory", found)


def disk(settings: Settings | None) -> Iterator[Finding]:
    """Whether the run's checkpoints fit on the disk."""
    from latte_cli.core.checkpoints.runs import checkpoints

    folder = _existing(Path.cwd() if settings is None else settings.run_dir)
    free = shutil.disk_usage(folder).free
    needed, found = LITTLE_DISK, f"{bytes_of(free)} free at {folder}"
    if settings is not None and _has_size(settings):
        from latte_cli.core.models.architectures import sizes_of
        from latte_cli.core.planning.cost import checkpoint_bytes

        one, keep = checkpoint_bytes(sizes_of(settings), settings.train), settings.train.keep
        # One more than is kept, while it is written.
        needed = one * max(1, keep + 1 - len(checkpoints(settings.run_dir / "ckpt")))
        found = (
            f"{found}; {keep} checkpoints of {bytes_of(one)} and one being written"
            f" take {bytes_of(needed)} more"
        )
    if free >= needed:
        yield Finding("disk", found)
    else:
        fix = "free some, set run_dir to a folder on another disk, or --set train.keep=1"
        yield Finding("disk", found, "warning" if settings is None else "problem", fix)


def data(settings: Settings) -> Iterator[Finding]:
    """Whether there are clips for training, from the cache if one is set, else from data.root."""
    from latte_cli.core.data.latent_cache.open import open_cache
    from latte_cli.core.data.videos.find import scan

    root, cache = settings.data.root, settings.cache.dir
    try:
        if cache is not None:
            index, _ = open_cache(settings)
            yield Finding("data", f"{cache}: latents of {len(index.videos)} videos")
        elif root is not None:
            found = scan(settings.data, seconds=SCAN_SECONDS)
            left_out = f", {len(found.opened.left_out)} left out" if found.opened.left_out else ""
            yield Finding("data", f"{root}: {len(found.videos)} videos{left_out}")
        else:
            yield Finding("data", "neither data.root nor cache.dir is set: nothing to train on")
    except LatteError as error:
        fix = (
            "fill the cache with: latte cache"
            if cache is not None
            else "name the folder of videos: --data PATH"
        )
        yield Finding("data", str(error), "problem", fix)


def cache_dir(settings: Settings) -> Iterator[Finding]:
    """Whether the folder for cached latents can be written."""
    from latte_cli.core.planning.room import check_folder

    if settings.cache.dir is None:
        return
    try:
        check_folder("cache.dir", settings.cache.dir)
    except LatteError as error:
        yield Finding("latent cache", str(error), "problem", "set cache.dir to a folder that you can write")
    else:
        yield Finding("latent cache", f"{settings.cache.dir} can be written")


def run_folder(settings: Settings) -> Iterator[Finding]:
    """Whether the run folder can be written and no other command is using it."""
    from latte_cli.core.planning.room import check_folder
    from latte_cli.core.storage.lock import is_held

    folder = settings.run_dir
    try:
        check_folder("run_dir", folder)
    except LatteError as error:
        yield Finding("run folder", str(error), "problem", "--run-dir DIR: a folder that you can write")
        return
    if is_held(folder):
        fix = "wait for that command, or --run-dir DIR: another folder"
        yield Finding("run folder", f"{folder}: another command is using it", "problem", fix)
    else:
        yield Finding("run folder", f"{folder} can be written")


def weights(settings: Settings) -> Iterator[Finding]:
    """Whether the experiment's weights exist."""
    named = {
        "vae.weights": settings.vae.weights,
        "text.encoder": settings.text.encoder,
        "train.init_from": settings.train.init_from,
        "sample.pipeline": settings.sample.pipeline,
    }
    right = []
    for name, path in named.items():
        if path is None:
            continue
        if is_name(path):
            right.append(f"{name} {name_of(str(path))} (fetched when it is used)")
        elif path == "demo" or Path(path).exists():
            right.append(f"{name} {path}")
        else:
            fix = f"put the file or folder there, or --set {name}=PATH"
            yield Finding("weights", f"{name}: {path}: no such file or folder", "problem", fix)
    if right:
        yield Finding("weights", ", ".join(right))


OF_EXPERIMENT: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "data": data,
    "latent cache": cache_dir,
    "run folder": run_folder,
    "weights": weights,
}


def _has_size(settings: Settings) -> bool:
    """Whether the experiment defines the model's size, which is not needed for sampling a pipeline."""
    model = settings.model
    return model.preset is not None or model.hidden_size is not None


def _existing(folder: Path) -> Path:
    """The folder, or its nearest existing parent."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
