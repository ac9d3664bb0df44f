"""The previews and samples of a run folder with descriptions, embedded up to a size limit."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from latte_cli.core.errors import LatteError
from latte_cli.core.sampling.spec import ClipSpec, PipelineSpec, RunSpec, read_specs
from latte_cli.core.sampling.write import PREVIEW
from latte_cli.core.storage.json_files import open_regular

EMBED_BYTES = 16 << 20  # of all files embedded in a page
SHOWN = {".mp4": "video/mp4", ".gif": "image/gif", ".png": "image/png"}  # the first that a clip has is shown


@dataclass(frozen=True)
class Clip:
    """A clip of the page: `source` is a data URI, or None if it is only linked."""

    name: str
    link: str
    """Path relative to the page."""
    kind: Literal["video", "image"]
    facts: tuple[tuple[str, str], ...]
    source: str | None = None


@dataclass(frozen=True)
class Gallery:
    """The clips of a run, and the number of embedded ones."""

    samples: tuple[Clip, ...]
    previews: tuple[tuple[int, tuple[Clip, ...]], ...]
    """Previews by step, in order."""
    embedded: int
    total: int
    digests: dict[str, str]
    """SHA-256 of the files that determine the samples, by path."""
    unread: int
    """Number of sidecars that cannot be read."""


def gallery(run_dir: Path, *, most_bytes: int = EMBED_BYTES) -> Gallery:
    """The clips in a run's samples/; samples are embedded first, then previews from newest to oldest."""
    folder = run_dir / "samples"
    embed = _Embedder(run_dir, most_bytes)
    specs, unread = read_specs(folder)
    samples = [embed.clip(path, _facts(spec)) for spec in specs if (path := _shown(folder, spec.name))]
    by_step = _previews(folder)
    previews: list[tuple[int, tuple[Clip, ...]]] = []
    for step in sorted(by_step, reverse=True):
        clips = [embed.clip(path, [("clip", clip)]) for clip, path in by_step[step]]
        previews.append((step, tuple(clips)))
    total = len(samples) + sum(len(clips) for _, clips in previews)
    digests = {path: digest for spec in specs for path, digest in spec.sha256.items()}
    return Gallery(tuple(samples), tuple(reversed(previews)), embed.count, total, digests, unread)


class _Embedder:
    """Embeds files up to a total number of bytes."""

    def __init__(self, run_dir: Path, most_bytes: int) -> None:
        self.run_dir = run_dir
        self.left = most_bytes
        self.count = 0

    def clip(self, path: Path, facts: Sequence[tuple[str, str]]) -> Clip:
        link = quote(path.relative_to(self.run_dir).as_posix())
        kind: Literal["video", "image"] = "video" if path.suffix == ".mp4" else "image"
        return Clip(path.stem, link, kind, tuple(facts), self._source(path))

    def _source(self, path: Path) -> str | None:
        try:
            with open_regular(path) as file:
                content = file.read(self.left + 1)
        except (FileNotFoundError, LatteError):
            return None
        if not 0 < len(content) <= self.left:
            return None
        self.left -= len(content)
        self.count += 1
        return f"data:{SHOWN[path.suffix]};base64,{base64.b64encode(content).decode()}"


def _shown(folder: Path, name: str) -> Path | None:
    """The file of a clip that a browser can show."""
    paths = [folder / f"{name}{suffix}" for suffix in SHOWN]
    return next((path for path in paths if path.is_file()), None)


def _previews(folder: Path) -> dict[int, list[tuple[str, Path]]]:
    """(clip, file) of each preview, by its step."""
    found: dict[int, list[tuple[str, Path]]] = {}
    names = {path.stem for path in folder.glob("step-*") if path.suffix in SHOWN}
    for name in sorted(names):
        match, path = PREVIEW.fullmatch(name), _shown(folder, name)
        if match is not None and path is not None:
            found.setdefault(int(match[1]), []).append((match[2], path))
    return found


def _facts(spec: ClipSpec) -> list[tuple[str, str]]:
    """The description of a sample."""
    facts: list[tuple[str, str | None]] = [
        ("prompt", spec.prompt),
        ("negative prompt", spec.negative_prompt or None),
        ("seed", str(spec.seed)),
    ]
    if isinstance(spec, RunSpec):
        sample = spec.sample_settings()
        steps = sample.respacing or str(sample.steps)
        facts += [
            ("class", None if spec.class_label is None else str(spec.class_label)),
            ("sampler", f"{sample.sampler or 'ddpm'}, {steps} steps"),
            ("guidance", f"{sample.guidance_scale:g}" if sample.guidance_scale != 1 else None),
            ("weights", str(spec.checkpoint)),
        ]
    elif isinstance(spec, PipelineSpec):
        facts += [
            ("sampler", f"{spec.sampler or spec.scheduler}, {spec.steps} steps"),
            ("guidance", f"{spec.guidance_scale:g}"),
            ("weights", str(spec.pipeline)),
        ]
    return [(name, text) for name, text in facts if text is not None]
