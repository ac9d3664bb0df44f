"""Clips as files: each in its formats, beside it the record of what made it, and all of them side by side."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli import __version__
from latte_cli.core.digests import digest_of_files
from latte_cli.core.errors import LatteError
from latte_cli.core.files import whole_file, write_whole
from latte_cli.core.sampling.media import contact_sheet, grid, write_gif, write_mp4, write_png
from latte_cli.core.sampling.sidecar import Record

Array = NDArray[np.float32]
Frames = NDArray[np.uint8]

LATENTS = "latents"
FRAMES = "frames"
"""Of `latte evaluate`: (F, H, W, 3) uint8 as .npy, as they were decoded, without a file of all clips."""
DEFAULT_FORMATS = ("mp4", "png")


@dataclass(frozen=True)
class ClipStep:
    """Clip `clip`, from 0, after `step` of `steps`; `plan` has the steps of every clip.

    `latents` (F, 4, h, w), scaled, are those after the step, where they are told; the last step has them, and
    frames (F, H, W, 3) where they are decoded.
    """

    clip: int
    step: int
    steps: int
    plan: tuple[int, ...]
    latents: Array | None = None
    frames: Frames | None = None

    @property
    def is_last(self) -> bool:
        """Whether it finishes the clip."""
        return self.step == self.steps


@dataclass(frozen=True)
class SampleReport:
    """A step of a clip, and the files that were written since the report before.

    `plan` has the steps of every clip; step 0 is that the clip's prompt was read. A clip's files are told
    by a report of the next one, or the last; `frames` are theirs, (F, H, W, 3) uint8, where it was decoded.
    """

    clip: int
    step: int
    plan: tuple[int, ...]
    files: tuple[Path, ...] = ()
    frames: Frames | None = None

    @property
    def done(self) -> int:
        """Steps done of all clips together."""
        return sum(self.plan[: self.clip]) + self.step


@dataclass(frozen=True)
class ClipFiles:
    """Where clips are written, and as what."""

    folder: Path
    formats: tuple[str, ...] = DEFAULT_FORMATS
    """Of mp4, gif, png and latents; or frames alone."""
    fps: int = 8

    @property
    def decodes(self) -> bool:
        """Whether any of it takes pixels."""
        return set(self.formats) != {LATENTS}

    @property
    def shows_all(self) -> bool:
        """Whether there is a file of all clips together."""
        return self.decodes and self.formats != (FRAMES,)


def write_clips(
    steps: Iterable[ClipStep],
    records: Mapping[str, Record],
    target: ClipFiles,
    *,
    keep: Callable[[str, Frames], None] | None = None,
) -> Iterator[SampleReport]:
    """Write each clip with its record while the next one's steps go on, and all of them together at the end.

    records: what made each clip, by its name, in the order of the clips. keep: takes a clip's name and
    frames, in place of the files of all together. Yields a report a step, and further ones for what is
    written after the last. However it ends, a clip whose writing has begun is written to its end.
    """
    names, pictures = list(records), []
    writing: Future[list[Path]] | None = None
    frames: Frames | None = None

    def write(step: ClipStep, latents: Array) -> list[Path]:
        name = names[step.clip]
        files = write_clip(target, name, latents=latents, frames=step.frames)
        record = records[name] | {"formats": list(target.formats), "files": [file.name for file in files]}
        if keep is not None and step.frames is not None and target.shows_all:
            keep(name, step.frames)
        return [*files, write_record(target.folder, name, record)]

    # Decoding is not done here: MindSpore fails where one thread compiles while another computes.
    with ThreadPoolExecutor(1) as writer:
        for step in steps:
            at = (step.clip, step.step, step.plan)
            report = SampleReport(*at)
            if writing is not None and (step.is_last or writing.done()):
                report = SampleReport(*at, tuple(writing.result()), frames)
                writing = None
            if step.is_last and step.latents is not None:
                writing, frames = writer.submit(write, step, step.latents), step.frames
                if keep is None and frames is not None and target.shows_all:
                    pictures.append(frames)
            yield report
        if writing is not None:
            yield SampleReport(*at, tuple(writing.result()), frames)
    if len(pictures) > 1:
        yield SampleReport(*at, tuple(write_grid(target, pictures)))


def write_clip(target: ClipFiles, name: str, *, latents: Array, frames: Frames | None) -> list[Path]:
    """Write a clip in each format, and give the files; a png is its contact sheet.

    Without frames, latents alone are written.
    """
    files = []
    for wanted in target.formats:
        path = target.folder / f"{name}.{'npy' if wanted in (LATENTS, FRAMES) else wanted}"
        if wanted == LATENTS:
            with whole_file(path) as partial:
                np.save(partial, latents.astype(np.float32))
        elif frames is None:
            continue
        elif wanted == FRAMES:
            with whole_file(path) as partial:
                np.save(partial, frames)
        elif wanted == "mp4":
            write_mp4(path, frames, target.fps)
        elif wanted == "gif":
            write_gif(path, frames, target.fps)
        else:
            write_png(path, contact_sheet(frames[None]))
        files.append(path)
    return files


def write_grid(target: ClipFiles, pictures: Sequence[Frames]) -> list[Path]:
    """Write several clips side by side: a still of all their frames, and a clip; of images a still alone."""
    together = np.stack(pictures)
    still, moving = target.folder / "grid.png", target.folder / "grid.mp4"
    if together.shape[1] == 1:
        write_png(still, grid(together)[0])
        return [still]
    write_png(still, contact_sheet(together))
    write_mp4(moving, grid(together), target.fps)
    return [still, moving]


def write_record(folder: Path, name: str, record: Record) -> Path:
    """Write what made a clip beside it, as JSON."""
    path = folder / f"{name}.json"
    write_whole(path, json.dumps({"latte": __version__, "name": name} | record, indent=2) + "\n")
    return path


def read_noise(path: Path, wanted: tuple[int, ...]) -> Array:
    """Noise (N, F, 4, h, w) from a .npy. Raises LatteError when it is none, or not (N, *wanted)."""
    try:
        noise = np.load(path, mmap_mode="r")  # a header may claim more than the file holds
    except (OSError, ValueError, EOFError) as error:
        raise LatteError(f"{path}: cannot be read as a .npy of noise: {error}") from error
    if not isinstance(noise, np.ndarray):
        raise LatteError(f"{path}: found an archive of arrays, wanted a .npy of noise")
    if noise.dtype.kind not in "fiu":
        raise LatteError(f"{path}: found values of type {noise.dtype}, wanted floating-point noise")
    if noise.ndim != 5 or noise.shape[1:] != wanted or not len(noise):
        raise LatteError(f"{path}: found noise of shape {noise.shape}, wanted (N, {str(wanted)[1:]}")
    return np.asarray(noise, np.float32)


def noise_row(noise: Array, row: int, *, source: Path) -> Array:
    """Row `row` of noise (N, F, 4, h, w) from `source`. Raises LatteError when it has fewer."""
    if row >= len(noise):
        raise LatteError(f"{source}: found noise of {len(noise)} clips, wanted row {row}")
    return noise[row]


def digests(paths: Iterable[Path | None]) -> dict[str, str]:
    """The SHA-256 of each file by its path, for a record."""
    return {str(path): digest_of_files([path]) for path in paths if path is not None}
