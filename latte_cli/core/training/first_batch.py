"""The first batch of a run as a picture: a row for each clip, with its caption or label above."""

import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from latte_cli.core.data.clips.batches import Batch, ClipSource, FrameOf, Sharing, batches
from latte_cli.core.data.clips.captioned import CaptionedSource
from latte_cli.core.data.videos.demo import clips_root
from latte_cli.core.data.videos.find import find_videos
from latte_cli.core.data.videos.open import open_video
from latte_cli.core.data.videos.transforms import to_pixels, to_uint8
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import DataSettings, Settings
from latte_cli.core.training.captioning import CaptionSampler
from latte_cli.core.training.inputs import labels_or_null

CLIPS_SHOWN, FRAMES_SHOWN = 16, 16
SIDE = 128  # pixels of a frame in the picture, at most
BORDER, LINE, FONT_SIZE = 4, 18, 14
LETTER = 8  # average width of a letter in pixels

Pixels = NDArray[np.uint8]


def first_batch(settings: Settings, source: ClipSource, *, workers: int = 1) -> Batch:
    """The clips of the first worker's first forward pass, drawn as in training."""
    train = settings.train
    sharing = Sharing(train.batch_size, train.accumulation, world=workers)
    with closing(batches(source, data=settings.data, sharing=sharing, seed=settings.seed)) as stream:
        return next(stream)


def draw_batch(batch: Batch, settings: Settings, source: ClipSource) -> Pixels:
    """A picture of a batch (H, W, 3): a row for each of the first clips, still images at its end.

    For latents, the encoded frames are read from the videos of data.root. Raises LatteError if these
    are missing.
    """
    data, conditions = settings.data, _conditions(batch, settings, source)
    rows = []
    for clip, frames in zip(range(min(CLIPS_SHOWN, len(batch.places))), _frames(batch, data), strict=False):
        shown = [*_spread(data.num_frames), *range(data.num_frames, len(frames))]
        pictures = [_small(frames[place]) for place in shown]
        rows.append(_row(pictures, [_source_of(batch.drawn_from[clip], data), *conditions(clip)]))
    width = max(row.width for row in rows)
    page = Image.new("RGB", (width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height
    return np.asarray(page)


def _frames(batch: Batch, data: DataSettings) -> Iterator[Pixels]:
    """(F, H, W, 3) uint8 of each clip, as passed to the model or the autoencoder."""
    if batch.content == "frames":
        yield from map(to_uint8, batch.values)
        return
    if data.root is None or not clips_root(data.root).exists():
        raise LatteError(f"data.root: {data.root}: the cache's videos are not there")
    paths = {video.name: video.path for video in find_videos(clips_root(data.root))}
    for clip in batch.drawn_from:
        parts = groupby(clip, key=lambda frame: (frame.name, frame.mirror))
        yield np.concatenate([_read(paths, list(frames), data) for _, frames in parts])


def _read(paths: dict[str, Path], frames: list[FrameOf], data: DataSettings) -> Pixels:
    """Frames of one video, all or none of them mirrored."""
    name, _, mirror = frames[0]
    if name not in paths:
        raise LatteError(f"data.root: {data.root}: has no {name}, which is in the cache")
    raw = open_video(paths[name]).read([frame.frame for frame in frames])
    return to_uint8(to_pixels(raw, data.image_size, data.transform, mirror=mirror))


def _conditions(batch: Batch, settings: Settings, source: ClipSource) -> Callable[[int], list[str]]:
    """The caption or label of a clip and of its still images, a line each, dropped as in training."""
    model = settings.model
    if isinstance(source, CaptionedSource):

        def no_states(text: str) -> NDArray[np.float32]:
            raise NotImplementedError(text)  # only the texts are used

        sampler = CaptionSampler(source.captions, no_states, dropout=model.condition_dropout)
        return lambda clip: [
            text or "no caption (dropped)"
            for text in sampler.texts(batch, clip, settings.data.num_frames, settings.seed)
        ]
    if model.num_classes is None:
        return lambda _: []
    labels = labels_or_null(batch, model, settings.seed)
    return lambda clip: [
        ", ".join(
            "no class (dropped)" if label == model.num_classes else f"class {label}" for label in labels[clip]
        )
    ]


def _source_of(frames: tuple[FrameOf, ...], data: DataSettings) -> str:
    """The video and frames of a clip, and the number of still images after it."""
    clip, images = frames[: data.num_frames], frames[data.num_frames :]
    text = f"{clip[0].name}, frame {clip[0].frame}"
    if len(clip) > 1:
        text = f"{clip[0].name}, frames {clip[0].frame} to {clip[-1].frame}"
        if len(clip) > FRAMES_SHOWN:
            text += f" ({FRAMES_SHOWN} of {len(clip)} shown)"
    if clip[0].mirror:
        text += ", mirrored"
    return f"{text}; then {len(images)} still images" if images else text


def _spread(number: int) -> list[int]:
    """At most FRAMES_SHOWN places of a clip's frames, evenly spread from the first to the last."""
    return (
        list(range(number))
        if number <= FRAMES_SHOWN
        else np.linspace(0, number - 1, FRAMES_SHOWN).round().astype(int).tolist()
    )


def _small(frame: Pixels) -> Image.Image:
    picture = Image.fromarray(frame)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture


def _row(pictures: list[Image.Image], lines: list[str]) -> Image.Image:
    """Pictures side by side under lines of text."""
    width = max(320, len(pictures) * (pictures[0].width + BORDER) + BORDER)
    wrapped = [part for line in lines for part in textwrap.wrap(line, width // LETTER, max_lines=3) or [""]]
    top = len(wrapped) * LINE + 2 * BORDER
    row = Image.new("RGB", (width, top + pictures[0].height + BORDER), "white")
    draw = ImageDraw.Draw(row)
    for number, line in enumerate(wrapped):
        draw.text((BORDER, BORDER + number * LINE), line, "black", _font())
    for place, picture in enumerate(pictures):
        row.paste(picture, (BORDER + place * (picture.width + BORDER), top))
    return row


def _font() -> ImageFont.FreeTypeFont:
    """A font of matplotlib with the letters of most alphabets."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), FONT_SIZE)
