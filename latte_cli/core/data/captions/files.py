"""Captions of videos: a CSV or JSON-lines file, a folder of .txt files, or a .txt file next to each video."""

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeAlias

from pydantic import Field, field_validator

from latte_cli.core.data.videos.folders import VIDEO_SUFFIXES
from latte_cli.core.errors import LatteError
from latte_cli.core.rng import Stream, draw
from latte_cli.core.storage.json_files import Model, open_regular, read_json_lines

log = logging.getLogger(__name__)

Captions: TypeAlias = Mapping[str, tuple[str, ...]]
"""Maps a video's name to its captions, at least one."""
CSV_ROW = "video,caption with quotes around a caption that has commas"
Entry: TypeAlias = tuple[int, str, str]
"""Line number, video and caption."""
LONGEST = 1 << 17  # characters of a caption, the csv module's limit of a cell
NO_CAPTION = ""  # replaces dropped captions in training; the empty prompt in sampling


def read_captions(path: Path | None, names: Sequence[str], root: Path) -> Captions:
    """The captions of each named video; videos without captions are absent.

    path: a .csv or .jsonl file whose rows name a video with or without its suffix; a folder with `<name>.txt`
    for each video; or None for a .txt file next to each video under `root`. Several rows, or several lines of
    a .txt, are several captions. Raises LatteError naming the invalid line, or if there are no captions.
    """
    if path is not None and not path.exists():
        raise LatteError(f"data.captions: {path}: no such file or folder")
    if path is None or path.is_dir():
        captions = _from_texts(path or root, names)
    else:
        captions = _from_table(path, names, root)
    if not captions:
        where = (
            f"next to the {len(names)} videos of {root}"
            if path is None
            else f"in {path} for a video of {root}"
        )
        raise LatteError(f"data.captions: found none {where}, expected {_expected(path, names)}")
    return captions


def choose_caption(captions: Sequence[str], *, seed: int, epoch: int, video: int) -> str:
    """Choose one of a video's captions; depends only on (seed, epoch, the video's index)."""
    if len(captions) == 1:
        return captions[0]
    return captions[int(draw(seed, Stream.CAPTION, epoch, video).integers(len(captions)))]


def distinct(captions: Captions) -> list[str]:
    """The distinct captions, in the order of first appearance."""
    return list(dict.fromkeys(text for texts in captions.values() for text in texts))


def texts_of(captions: Captions) -> list[str]:
    """The distinct texts that may condition a clip, including the empty text of dropped captions."""
    return list(dict.fromkeys([NO_CAPTION, *distinct(captions)]))


def _from_texts(folder: Path, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The non-empty lines of each video's .txt file."""
    captions = {}
    for name in names:
        path = folder / _text_name(name)
        if path.is_file():
            lines = tuple(line.strip() for line in _read(path).splitlines() if line.strip())
            if not lines:
                raise LatteError(f"data.captions: {path}: is empty, expected one caption per line")
            if (longest := max(map(len, lines))) > LONGEST:
                fault = f"found a line of {longest:,} characters, expected at most {LONGEST:,}"
                raise LatteError(f"data.captions: {path}: {fault}")
            captions[name] = lines
    return captions


def _from_table(path: Path, names: Sequence[str], root: Path) -> dict[str, tuple[str, ...]]:
    """The captions of a file, by video."""
    rows = _csv_rows(path) if path.suffix.lower() in (".csv", ".tsv") else _json_rows(path)
    bare = {_without_suffix(name): name for name in names}
    known = {name: name for name in names}
    captions: dict[str, list[str]] = {}
    unknown = []
    for line, video, caption in rows:
        if not caption.strip():
            raise LatteError(f"data.captions: {path}: line {line}: found an empty caption for {video}")
        subject = _relative(video, root)
        name = known.get(subject) or bare.get(subject)
        if name is None:
            unknown.append(video)
        else:
            captions.setdefault(name, []).append(caption.strip())
    if unknown and captions:
        found = "1 row matches no video" if len(unknown) == 1 else f"{len(unknown)} rows match no video"
        log.warning("%s: %s, the first %s", path, found, unknown[0])
    return {name: tuple(dict.fromkeys(texts)) for name, texts in captions.items()}


def _csv_rows(path: Path) -> Iterator[Entry]:
    """The rows of a CSV file: the columns video and caption, or its only two columns."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(LONGEST)  # the default, in case a library has changed it
    reader = csv.reader(StringIO(_read(path), newline=""), delimiter=delimiter, strict=True)
    video, caption, cells = 0, 1, 0
    try:
        for row in reader:
            names = [cell.strip().lower() for cell in row]
            if not cells and "video" in names and "caption" in names:
                video, caption, cells = names.index("video"), names.index("caption"), len(row)
            elif any(names):
                cells = cells or 2
                if len(row) != cells:  # usually a caption with commas and without quotes
                    raise LatteError(_fault(path, reader.line_num, repr(delimiter.join(row)), CSV_ROW))
                yield reader.line_num, row[video].strip(), row[caption]
    except csv.Error as error:
        raise LatteError(_fault(path, reader.line_num, str(error), CSV_ROW)) from error


class _Row(Model):
    """A line of a JSON-lines file; the caption may be a list."""

    video: str
    caption: tuple[Annotated[str, Field(max_length=LONGEST)], ...] = Field(min_length=1)

    @field_validator("caption", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, caption: object) -> object:
        if isinstance(caption, str):
            return (caption,)
        if not isinstance(caption, list):
            raise ValueError("expected text or a list of texts")
        return tuple(caption)


def _json_rows(path: Path) -> Iterator[Entry]:
    """The rows of a JSON-lines file."""
    try:
        for number, row in read_json_lines(path, _Row, expected='{"video": ..., "caption": ...}'):
            yield from ((number, row.video, text) for text in row.caption)
    except LatteError as error:
        raise LatteError(f"data.captions: {error}") from error


def _relative(video: str, root: Path) -> str:
    """Convert a path to a video's name: made relative to `root` if it is absolute or begins with it."""
    path = Path(video.replace("\\", "/"))
    for base in (root, root.resolve()):
        if path.is_relative_to(base):
            path = path.relative_to(base)
    return PurePosixPath(path).as_posix()


def _text_name(name: str) -> str:
    """The .txt of a video: replaces a movie's suffix, appends to the name of a folder of images."""
    return f"{_without_suffix(name)}.txt"


def _without_suffix(name: str) -> str:
    """A video's name without its suffix; the names of folders of images are kept, even with dots."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in VIDEO_SUFFIXES else name


def _read(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LatteError(f"data.captions: {path}: cannot be read: not UTF-8 text") from error
    except LatteError as error:
        raise LatteError(f"data.captions: {error}") from error


def _expected(path: Path | None, names: Sequence[str]) -> str:
    example = names[0] if names else "clip.mp4"
    if path is None or path.is_dir():
        return f"a file {(path / _text_name(example)) if path else _text_name(example)}"
    return f"rows such as {example},a caption"


def _fault(path: Path, line: int, found: str, expected: str) -> str:
    return f"data.captions: {path}: line {line}: found {found}, expected {expected}"
