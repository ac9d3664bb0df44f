"""Class labels from a text file of `video-or-folder label` lines."""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from latte_cli.core.errors import LatteError, found

log = logging.getLogger(__name__)

MOST_DIGITS = 9  # of a class number


class VideoClass(NamedTuple):
    """A class: its name (a folder's name or a label) and its number."""

    name: str
    number: int


def read_labels(path: Path, names: Sequence[str]) -> dict[str, VideoClass]:
    """The class of each video covered by a label file; other videos are absent.

    A line names a video, with or without its suffix, or a folder of videos; the most specific line applies.
    Labels are numbers from 0, or names, which are numbered in sorted order. Empty lines and lines starting
    with # are ignored. Raises LatteError naming the invalid line.
    """
    entries = _read_entries(path)
    numbers = _number(path, [label for label, _ in entries.values()])
    known = set(names) | {str(PurePosixPath(name).with_suffix("")) for name in names}
    known |= {str(parent) for name in names for parent in PurePosixPath(name).parents}
    unknown = [subject for subject in entries if subject not in known]
    if unknown:
        log.warning(
            "%s: %d of %d lines match no video, the first %s", path, len(unknown), len(entries), unknown[0]
        )
    labels = {}
    for name in names:
        places = [name, str(PurePosixPath(name).with_suffix("")), *map(str, PurePosixPath(name).parents)]
        label = next((entries[place][0] for place in places if place in entries), None)
        if label is not None:
            labels[name] = VideoClass(label, numbers[label])
    return labels


def _read_entries(path: Path) -> dict[str, tuple[str, int]]:
    """Maps the video or folder of each line to its label and line number."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise LatteError(f"data.labels: {path}: cannot be read: {reason}") from error
    entries: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = line.rsplit(None, 1)
        if len(parts) != 2:
            raise LatteError(
                f"data.labels: {path}: line {number}: found {line.strip()!r},"
                " expected `video-or-folder label`"
            )
        subject = str(PurePosixPath(parts[0].strip()))
        if subject in entries and entries[subject][0] != parts[1]:
            earlier = entries[subject][1]
            raise LatteError(
                f"data.labels: {path}: line {number}: {subject} has another label on line {earlier}"
            )
        entries[subject] = (parts[1], number)
    if not entries:
        raise LatteError(f"data.labels: {path}: contains no lines")
    return entries


def _number(path: Path, labels: Sequence[str]) -> dict[str, int]:
    """Map label texts to class numbers."""
    distinct = sorted(set(labels))
    if all(label.isdecimal() for label in distinct):
        if (longest := max(distinct, key=len)) and len(longest) > MOST_DIGITS:
            raise LatteError(
                f"data.labels: {path}: {found(longest, f'a number of at most {MOST_DIGITS} digits')}"
            )
        return {label: int(label) for label in distinct}
    if any(label.isdecimal() for label in distinct):
        mixed = next(label for label in distinct if not label.isdecimal())
        raise LatteError(f"data.labels: {path}: mixes numbers with names such as {mixed}, expected either")
    return {label: number for number, label in enumerate(distinct)}
