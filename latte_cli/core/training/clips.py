"""The clips of a run, for training and for validation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from latte_cli.core.data.clips.batches import ClipSource
from latte_cli.core.data.clips.captioned import CaptionedSource
from latte_cli.core.data.clips.frames import FrameSource
from latte_cli.core.data.clips.part import PartSource, fingerprint, split
from latte_cli.core.data.latent_cache.open import open_cache
from latte_cli.core.data.latent_cache.texts import captions_of
from latte_cli.core.data.videos.demo import clips_root
from latte_cli.core.data.videos.find import ClipIndex, VideoFile, check_labels, class_folder, index_clips
from latte_cli.core.data.videos.left_out import warn_of
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings


@dataclass(frozen=True)
class RunClips:
    """The videos for training and, if any, for validation; no video is in both."""

    training: ClipSource
    validation: ClipSource | None = None

    @property
    def fingerprint(self) -> str:
        """A short hash of the training videos and their captions."""
        return source_fingerprint(self.training)


def open_run_clips(settings: Settings) -> RunClips:
    """Find the clips, in the cache if one is set, and split them as set by `data.validation`.

    Raises LatteError if there are none for training or validation, or if a video's class is unknown.
    """
    wanted = settings.data.validation
    source: ClipSource
    if settings.cache.dir is not None:
        index, source = open_cache(settings)
        warn_of(index.left_out, settings.data)
    else:
        index = index_clips(settings.data)
        source = FrameSource(index, settings.data)
    if settings.model.num_classes is not None:
        check_labels(index.videos, settings.model.num_classes)
    if settings.model.condition == "text":
        source = CaptionedSource(source, captions_of(settings, source.names))
    if isinstance(wanted, float):
        training, validation = (PartSource(source, places) for places in split(source.names, wanted))
        if isinstance(source, CaptionedSource):
            return RunClips(*(CaptionedSource(part, source.captions) for part in (training, validation)))
        return RunClips(training, validation)
    return RunClips(source, None if wanted is None else _of_folder(validation_settings(settings), index))


def source_fingerprint(source: ClipSource) -> str:
    """A short hash of a source's videos and captions."""
    return source.fingerprint() if isinstance(source, CaptionedSource) else fingerprint(source)


def validation_settings(settings: Settings) -> Settings:
    """The settings for a validation folder, which replaces the cache and data.root.

    Raises LatteError if its videos are among those of data.root.
    """
    folder, root = settings.data.validation, settings.data.root
    assert isinstance(folder, Path)
    if root is not None and folder.resolve().is_relative_to(clips_root(root).resolve()):
        raise LatteError(
            f"data.validation: {folder}: is in data.root {root}, whose videos are trained on: expected a"
            " folder outside of it"
        )
    data = settings.data.model_copy(update={"root": folder, "validation": None})
    cache = settings.cache.model_copy(update={"dir": None})
    return settings.model_copy(update={"data": data, "cache": cache})


@contextmanager
def naming_validation() -> Iterator[None]:
    """Replace data.root by data.validation in the message of a LatteError."""
    try:
        yield
    except LatteError as error:
        raise LatteError(str(error).replace("data.root:", "data.validation:", 1)) from error


def _of_folder(settings: Settings, trained: ClipIndex) -> ClipSource:
    """The clips of a validation folder, with the classes of the training videos."""
    with naming_validation():
        index = index_clips(settings.data)
        if settings.model.num_classes is not None and settings.data.labels is None:
            numbers = _class_numbers(trained)
            videos = [replace(video, label=_label_of(video, numbers)) for video in index.videos]
            index = replace(index, videos=tuple(videos))
        if settings.model.num_classes is not None:
            check_labels(index.videos, settings.model.num_classes)
        source = FrameSource(index, settings.data)
        if settings.model.condition != "text":
            return source
        return CaptionedSource(source, captions_of(settings, source.names))


def _class_numbers(index: ClipIndex) -> Mapping[str | None, int | None]:
    """The number of each class by its folder name."""
    return {class_folder(video.name): video.label for video in index.videos}


def _label_of(video: VideoFile, numbers: Mapping[str | None, int | None]) -> int | None:
    if video.class_name not in numbers:
        raise LatteError(
            f"data.validation: {video.name}: has class {video.class_name}, which no video of training has"
        )
    return numbers[video.class_name]
