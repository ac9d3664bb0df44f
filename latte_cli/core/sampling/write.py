"""Write clips in the requested formats, with their specs as JSON, and a grid of all clips."""

import re
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
"""For `latte evaluate`: decoded frames (F, H, W, 3) uint8 as .npy, without a grid of all clips."""
PREVIEW = re.compile(r"step-(\d{8,})-(.+)")
"""The name of a preview of training, without suffix: its step and clip."""
DEFAULT_FORMATS: tuple[Format, ...] = ("mp4", "png")


@dataclass(frozen=True)
class SampleReport:
    """A step of a clip, and the files written since the previous report.

    `plan` has the number of steps of every clip; step 0 means that the clip's prompt was encoded. A clip's
    files are in a report of the next clip, or in the last one; `frames` are its frames, (F, H, W, 3) uint8,
    if decoded.
    """

    clip: int
    step: int
    plan: tuple[int, ...]
    files: tuple[Path, ...] = ()
    frames: Frames | None = None

    @property
    def done(self) -> int:
        """Steps done, over all clips."""
        return sum(self.plan[: self.clip]) + self.step


@dataclass(frozen=True)
class ClipFiles:
    """Folder and formats of clips."""

    folder: Path
    formats: tuple[Format, ...] = DEFAULT_FORMATS
    """Any of mp4, gif, png and latents; or frames only."""
    fps: int = 8

    @property
    def decodes(self) -> bool:
        """Whether any format needs pixels."""
        return set(self.formats) != {LATENTS}

    @property
    def shows_all(self) -> bool:
        """Whether to write a grid of all clips."""
        return self.decodes and self.formats != (FRAMES,)


def write_clips(
    steps: Iterable[ClipStep],
    specs: Sequence[ClipSpec],
    target: ClipFiles,
    *,
    keep: Callable[[str, Frames], None] | None = None,
) -> Iterator[SampleReport]:
    """Write each clip with its sidecar during the steps of the next one, and a grid at the end.

    specs: of the clips, in the order of the steps. keep: called with a clip's name and frames, instead of
    writing a grid. Yields a report per step, and more for files written after the last step. A clip whose
    writing has begun is always completed.
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

    # Decoding is not done here: MindSpore fails if one thread compiles while another computes.
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
    """Write a clip in each format and return the files; png is a contact sheet.

    Without frames, only latents are written.
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


def holds_previews(folder: Path) -> bool:
    """Whether a folder contains previews of training: clips with contact sheets of the same name."""
    clips = (path for path in folder.glob("step-*.mp4") if PREVIEW.fullmatch(path.stem))
    return any(path.with_suffix(".png").is_file() for path in clips)


def clip_file(spec: ClipSpec) -> str | None:
    """Name of the file that has a clip's frames most exactly; None if there are only sheets or latents."""
    suffixes = (".npy",) if spec.formats == (FRAMES,) else (".mp4", ".gif")
    files = {Path(name).suffix: name for name in spec.files}
    return next((files[suffix] for suffix in suffixes if suffix in files), None)


def write_grid(target: ClipFiles, pictures: Sequence[Frames]) -> list[Path]:
    """Write several clips side by side: an image of all frames, and a clip; for images only an image."""
    together = np.stack(pictures)
    still, moving = target.folder / "grid.png", target.folder / "grid.mp4"
    if together.shape[1] == 1:
        write_png(still, grid(together)[0])
        return [still]
    write_png(still, contact_sheet(together))
    write_mp4(moving, grid(together), target.fps)
    return [still, moving]


def digests(paths: Iterable[Path | None]) -> dict[str, str]:
    """The SHA-256 of each file, by path, for a spec."""
    return {str(path): digest_of_files([path]) for path in paths if path is not None}
