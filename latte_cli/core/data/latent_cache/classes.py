"""The classes of cached videos, stored with the entries so that new or removed folders do not change them.

Caches of older versions and of MindONE do not store them. Their videos are numbered by their top-level
folders if these are certain to be all of the classes.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from latte_cli.core.data.latent_cache.manifest import Entry
from latte_cli.core.data.videos.demo import clips_root
from latte_cli.core.data.videos.find import (
    VideoFile,
    class_folder,
    class_folders,
    class_numbers,
    video_names,
)
from latte_cli.core.data.videos.labels import VideoClass, read_labels
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings

log = logging.getLogger(__name__)


def class_of(entry: Entry) -> VideoClass | None:
    """The class stored in an entry, or None."""
    if entry.class_name is None or entry.label is None:
        return None
    return VideoClass(entry.class_name, entry.label)


def labels_of(stored: Mapping[str, VideoClass | None], settings: Settings) -> Mapping[str, int | None]:
    """The class number of each video of a cache: from data.labels if set, else as stored.

    stored: the class stored for each video. Raises LatteError if a class-conditional model is trained and
    videos without a stored class cannot be numbered with certainty.
    """
    if settings.data.labels is not None:
        found = read_labels(settings.data.labels, list(stored))
        return {name: video_class.number for name, video_class in found.items()}
    unknown = class_folders(name for name, video_class in stored.items() if video_class is None)
    known = {found.name: found.number for found in stored.values() if found is not None}
    numbers: Mapping[str, int] | None = known
    if unknown:
        numbers = _number(known, unknown, _root_folders(settings), settings.model.num_classes)
    if numbers is None and settings.model.condition == "class":
        raise LatteError(
            f"cache.dir: {settings.cache.dir}: {_reason(unknown, settings)}: set data.root to the folder of"
            " all videos, or set data.labels"
        )
    if numbers is None:  # the labels are not used
        numbers = class_numbers(unknown | known.keys())
    return {
        name: numbers.get(class_folder(name) or "") if found is None else found.number
        for name, found in stored.items()
    }


def classify(
    entries: Mapping[str, Entry], videos: Sequence[VideoFile], settings: Settings
) -> tuple[dict[str, Entry], list[VideoFile]]:
    """Entries and videos with the classes to store in `latte cache`.

    Classes come from data.labels if set. Otherwise known classes keep their numbers; new classes are numbered
    by the sorted folders if this agrees with the known numbers, else after the last number. If an older cache
    cannot be numbered with certainty, no numbers are stored.
    """
    if settings.data.labels is not None:
        listed = {video.name: video for video in videos}
        return {
            name: entry
            if (video := listed.get(name)) is None
            else entry.model_copy(update={"class_name": video.class_name, "label": video.label})
            for name, entry in entries.items()
        }, list(videos)
    stored = {name: class_of(entry) for name, entry in entries.items()}
    known = {found.name: found.number for found in stored.values() if found is not None}
    unknown = class_folders(name for name, found in stored.items() if found is None)
    root = class_folders(video.name for video in videos)
    numbers = _number(known, unknown, root, settings.model.num_classes)
    if numbers is None:
        if settings.model.condition == "class":
            log.warning("%s: %s: no classes are stored", settings.cache.dir, _reason(unknown, settings))
        numbers = {}
    else:
        numbers = _extend(numbers, root)
    classified = {}
    for name, entry in entries.items():
        top = class_folder(name)
        known_here = stored[name] is not None or top is None
        label = None if top is None else numbers.get(top)
        classified[name] = (
            entry if known_here else entry.model_copy(update={"class_name": top, "label": label})
        )
    numbered = [
        replace(video, label=None if video.class_name is None else numbers.get(video.class_name))
        for video in videos
    ]
    return classified, numbered


def _number(
    known: Mapping[str, int], unknown: set[str], root: set[str], num_classes: int | None
) -> Mapping[str, int] | None:
    """Number the classes of a cache; None if it is uncertain which classes there are.

    known: stored classes; unknown: folders of videos without a stored class; root: folders of data.root.
    """
    if unknown <= known.keys():
        return known
    if unknown <= root:
        return _joined(known, class_numbers(root))
    everything = unknown | root | known.keys()
    return _joined(known, class_numbers(everything)) if len(everything) == num_classes else None


def _extend(known: Mapping[str, int], folders: set[str]) -> Mapping[str, int]:
    """The known numbers, and numbers for the other classes among `folders`."""
    joined = _joined(known, class_numbers(folders))
    if joined is None:
        joined = dict(known)
        for name in sorted(folders - known.keys()):
            joined[name] = max(joined.values()) + 1
            log.warning("new class %s gets number %d; the others keep their numbers", name, joined[name])
    return joined


def _joined(known: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int] | None:
    """Both numberings merged, or None if they contradict each other."""
    both = {**known, **more}
    agree = all(both[name] == number for name, number in known.items())
    return both if agree and len(set(both.values())) == len(both) else None


def _root_folders(settings: Settings) -> set[str]:
    """The top-level folders of data.root with videos; empty if there is no such folder."""
    root = settings.data.root
    return set() if root is None else class_folders(video_names(clips_root(root)))


def _reason(unknown: Iterable[str], settings: Settings) -> str:
    """Why classes cannot be numbered."""
    missing = sorted(set(unknown) - _root_folders(settings))
    reason = f"data.root has no folder {missing[0]}" if missing else "the folders of data.root have changed"
    return f"the classes of its videos are not stored, and {reason}"
