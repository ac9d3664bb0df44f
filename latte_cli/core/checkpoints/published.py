"""Resolve published names to local paths: find the needed files in the cache, or fetch them."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from latte_cli.core.checkpoints.folders import INDEX_SUFFIX, choose_weights
from latte_cli.core.checkpoints.lora import LoraUse
from latte_cli.core.errors import LatteError
from latte_cli.core.storage.hub import (
    HubName,
    Listing,
    UnreachableError,
    cached_snapshot,
    check_room,
    fetch_file,
    files_in,
    is_name,
    list_files,
    parse_name,
)

MODEL_INDEX = "model_index.json"
_WITHOUT_WEIGHTS = ("tokenizer", "scheduler")  # of a pipeline's parts
_SMALL = (".json", ".txt", ".model")  # configurations, and files of tokenizers
_NAMED = 3  # files listed when one must be chosen


@dataclass(frozen=True)
class Absent:
    """A name whose files are not all in the cache: how many are missing, and their bytes.

    reason: why these are unknown.
    """

    name: HubName
    files: int = 0
    size: int = 0
    reason: str = ""


@dataclass
class Hub:
    """Resolves names to local paths.

    fetches: whether to fetch what the cache lacks; otherwise it is added to `absent`, and the name stays.
    asks: whether to ask the hub for its size then. report: called with the name and bytes of each file before
    it is fetched.
    """

    fetches: bool = False
    asks: bool = False
    report: Callable[[HubName, int], object] | None = None
    absent: list[Absent] = field(default_factory=list)

    def local(self, path: Path, parts: Sequence[str] = ()) -> Path:
        """The path in the cache for a name; other paths are returned unchanged.

        Files of the revision (default main) in the cache are used without asking the hub. parts: the needed
        folders and files of a pipeline; "a|b" is the first that exists, and "a?" is optional. Raises
        LatteError if the name is malformed or cannot be fetched.
        """
        if not is_name(path):
            return path
        name = parse_name(path)
        snapshot = cached_snapshot(name)
        if snapshot is not None and _is_complete(name, files_in(snapshot), parts):
            return snapshot / name.file
        if self.fetches:
            return self._fetch(name, parts) / name.file
        self.absent.append(_missing(name, parts) if self.asks else Absent(name))
        return path

    def _fetch(self, name: HubName, parts: Sequence[str]) -> Path:
        """Fetch the needed files into a folder of the cache, the largest last: it implies the others."""
        listing = list_files(name)
        todo = _files_to_fetch(name, listing, parts)
        check_room(name, sum(listing.files[file].size for file in todo))
        for file in sorted(todo, key=lambda file: (listing.files[file].size, file)):
            if self.report is not None:
                self.report(HubName(name.repo, file, listing.commit), listing.files[file].size)
            fetch_file(name, file, listing)
        snapshot = cached_snapshot(HubName(name.repo, revision=listing.commit))
        assert snapshot is not None
        return snapshot


def local_lora(uses: Sequence[LoraUse], hub: Hub) -> tuple[LoraUse, ...]:
    """Adapters with local paths instead of names. Raises LatteError like `Hub.local`."""
    return tuple(LoraUse(path=hub.local(use.path), strength=use.strength) for use in uses)


def needed_files(name: HubName, files: Collection[str], parts: Sequence[str] = ()) -> list[str]:
    """The files that a name refers to: a file with its shards, a folder's files, or a pipeline's parts.

    Of a folder: its configuration and one set of weights. Raises LatteError if there are none or several.
    """
    if name.file in files:
        return [name.file, *_shards(name, name.file, files)]
    below = PurePosixPath(name.file)
    if not any(_folder(file).is_relative_to(below) for file in files):
        raise LatteError(f"{name}: {name.repo} has no file or folder {name.file}")
    index = str(below / MODEL_INDEX)
    if index in files and not parts:
        raise LatteError(f"{name}: a pipeline of several models; name one, such as hf://{name.repo}/vae")
    needed = [index] if index in files else []
    for part in parts:
        choices = [below / choice for choice in part.rstrip("?").split("|")]
        needed += _of_part(name, choices, files, optional=part.endswith("?") or index not in files)
    return list(dict.fromkeys(needed)) or list(_of_folder(name, below, files))


def _of_part(
    name: HubName, choices: Sequence[PurePosixPath], files: Collection[str], *, optional: bool
) -> Iterator[str]:
    """The files of the first part of a pipeline that exists."""
    for part in choices:
        if str(part) in files:
            yield str(part)
            return
        if any(_folder(file) == part for file in files):
            yield from _of_folder(name, part, files, weights=part.name not in _WITHOUT_WEIGHTS)
            return
    if not optional:
        raise LatteError(f"{name}: {name.repo} has no {choices[-1]}")


def _of_folder(
    name: HubName, folder: PurePosixPath, files: Collection[str], *, weights: bool = True
) -> Iterator[str]:
    """The small files in a folder, and its weights."""
    inside = [PurePosixPath(file) for file in files if _folder(file) == folder]
    yield from (
        str(file) for file in inside if file.suffix in _SMALL and not file.name.endswith(INDEX_SUFFIX)
    )
    if not weights:
        return
    try:
        chosen = str(folder / choose_weights([file.name for file in inside], f"{name}"))
    except LatteError as error:
        others = [file for file in inside if file.suffix in (".pt", ".pth", ".safetensors", ".bin", ".ckpt")]
        if not others:
            raise
        several = ", ".join(f"hf://{name.repo}/{file}" for file in others[:_NAMED])
        raise LatteError(f"{name}: found several files of weights; name one: {several}") from error
    yield chosen
    yield from _shards(name, chosen, files)


def _shards(name: HubName, index: str, files: Collection[str]) -> list[str]:
    """The numbered files next to an index of shards; none if the file is not an index."""
    if not index.endswith(INDEX_SUFFIX):
        return []
    stem, _, suffix = index.removesuffix(INDEX_SUFFIX).rpartition(".")
    form = re.compile(rf"{re.escape(stem)}-\d{{5}}-of-(\d{{5}})\.{suffix}")
    shards = [file for file in files if form.fullmatch(file)]
    count = {int(match[1]) for file in shards if (match := form.fullmatch(file))}
    if count != {len(shards)}:
        raise LatteError(f"{name}: {name.repo} does not have all the parts of {index}")
    return shards


def _is_complete(name: HubName, files: Collection[str], parts: Sequence[str]) -> bool:
    """Whether the cache has all needed files of a revision."""
    try:
        needed_files(name, files, parts)
    except LatteError:
        return False
    return True


def _missing(name: HubName, parts: Sequence[str]) -> Absent:
    """What would be fetched, according to the hub. Raises LatteError if it does not exist there."""
    try:
        listing = list_files(name)
    except UnreachableError as error:
        return Absent(name, reason=str(error).removeprefix(f"{name}: "))
    todo = _files_to_fetch(name, listing, parts)
    return Absent(name, len(todo), sum(listing.files[file].size for file in todo))


def _files_to_fetch(name: HubName, listing: Listing, parts: Sequence[str]) -> list[str]:
    snapshot = cached_snapshot(HubName(name.repo, revision=listing.commit))
    there = set() if snapshot is None else set(files_in(snapshot))
    return [file for file in needed_files(name, listing.files, parts) if file not in there]


def _folder(file: str) -> PurePosixPath:
    return PurePosixPath(file).parent
