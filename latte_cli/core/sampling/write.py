"""Clips as files: each in its formats, its spec next to it as JSON, and all clips side by side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.sampling.generator import ClipStep, Frames
from latte_cli.core.sampling.media import contact_sheet, grid, write_gif, write_mp4, write_png
from latte_cli.core.sampling.spec import ClipSpec, Format, write_spec
from latte_cli.core.storage.digests import digest_of_files
from latte_cli.core.storage.files import atomic_file

LATENTS: Format = "latents"
FRAMES: Format = "frames"
"""Of `latte evaluate`: (F, H, W, 3) uint8 as .npy, as they were decoded, without a file of all clips."""
DEFAULT_FORMATS: tuple[Format, ...] = ("mp4", "png")


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
    formats: tuple[Format, ...] = DEFAULT_FORMATS
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
    specs: Sequence[ClipSpec],
    target: ClipFiles,
    *,
    keep: Callable[[str, Frames], None] | None = None,
) -> Iterator[SampleReport]:
    """Write each clip with its sidecar while the next one's steps go on, and all of them together at the end.

    specs: of the clips, in the order of the steps. keep: takes a clip's name and
    frames, in place of the files of all together. Yields a report a step, and further ones for what is
    written after the last. However it ends, a clip whose writing has begun is written to its end.
    """
    pictures: list[Frames] = []
    writing: Future[list[Path]] | None = None
    frames: Frames | None = None

    def write(step: ClipStep, latents: Array) -> list[Path]:
        spec = specs[step.clip]
        files = write_clip(target, spec.name, latents=latents, frames=step.frames)
        if keep is not None and step.frames is not None and target.shows_all:
            keep(spec.name, step.frames)
        written = {"formats": target.formats, "files": tuple(file.name for file in files)}
        return [*files, write_spec(target.folder, spec.model_copy(update=written))]

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
    for suffix in target.formats:
        path = target.folder / f"{name}.{'npy' if suffix in (LATENTS, FRAMES) else suffix}"
        if suffix == LATENTS:
            with atomic_file(path) as partial:
                np.save(partial, latents.astype(np.float32))
        elif frames is None:
            continue
        elif suffix == FRAMES:
            with atomic_file(path) as partial:
                np.save(partial, frames)
        elif suffix == "mp4":
            write_mp4(path, frames, target.fps)
        elif suffix == "gif":
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


def digests(paths: Iterable[Path | None]) -> dict[str, str]:
    """The SHA-256 of each file by its path, for a spec."""
    return {str(path): digest_of_files([path]) for path in paths if path is not None}
