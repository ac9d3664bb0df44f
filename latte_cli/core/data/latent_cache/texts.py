"""Encoder states of captions in a cache: `text/` contains one file per caption and a manifest.

A line is appended to the manifest when its file is complete (see `Journal`). Captions are looked up by text,
so a caption shared by several videos is stored once.
"""

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from latte_cli.core.arrays import Array
from latte_cli.core.data.captions.files import Captions, read_captions
from latte_cli.core.data.captions.states import Kind, model_input
from latte_cli.core.data.latent_cache.check import Checked, EntryFault, check_entries
from latte_cli.core.data.latent_cache.manifest import AGAIN, Header
from latte_cli.core.data.latent_cache.numpy_files import checksum
from latte_cli.core.data.videos.demo import clips_root
from latte_cli.core.data.videos.find import VideoFile
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.files import clear_partials, write_file
from latte_cli.core.storage.journal import Journal
from latte_cli.core.storage.json_files import BULKY_BYTES, Count, Digest, Model, check_json, read_json
from latte_cli.core.storage.names import FileName, resolves_inside

TEXTS, TEXT_HEADER, MANIFEST, CAPTIONS = "text", "text.json", "manifest.jsonl", "captions.json"
SHOWN = 40  # characters of a caption in a message


class TextHeader(Model):
    """The settings that the states of all texts share."""

    encoder: str
    """SHA-256 of the encoder's and the tokenizer's files."""
    kind: Kind
    width: int = Field(ge=1)
    arithmetic: str
    """Type of the encoder: text.dtype."""
    dtype: Literal["float16", "float32"]
    """Type of the stored states: cache.dtype."""
    clean_caption: bool = False
    """Whether captions were cleaned: text.clean_caption for T5; False in caches older than the setting."""

    def differences(self, expected: "TextHeader", *, reading: bool) -> list[str]:
        """Descriptions of the differences to another header; if `reading`, only those that affect a model."""
        names = {"encoder": "text.encoder", "kind": "text.encoder", "arithmetic": "text.dtype"}
        names |= {} if reading else {"dtype": "cache.dtype", "clean_caption": "text.clean_caption"}
        return [
            f"{setting}: the captions were encoded with {str(mine)[:12]}, this run has {str(theirs)[:12]}"
            for name, setting in names.items()
            for mine, theirs in [(getattr(self, name), getattr(expected, name))]
            if mine != theirs
        ]


class TextEntry(Model):
    """One text's states."""

    text: str
    tokens: Count
    """Without padding; CLIP's padding is stored too."""
    shape: tuple[Count, ...] = Field(max_length=2)
    dtype: Literal["float16", "float32"]
    checksum: Digest
    """SHA-256 of the values in order."""
    encoder: str
    file: FileName
    """Path in text/."""


def read_text_header(cache: Path | None) -> TextHeader | None:
    """The header of a cache's texts, or None if it has none. Raises LatteError if it is damaged."""
    path = None if cache is None else cache / TEXTS / TEXT_HEADER
    if path is None or not path.is_file():
        return None
    return read_json(path, TextHeader)


def read_texts(cache: Path, *, skip_damaged: bool = False) -> dict[str, TextEntry]:
    """The entries by text; the last line of a text counts. For damaged lines see `Journal.read`."""
    return {entry.text: entry for entry in _journal(cache).read(skip_damaged=skip_damaged)}


def begin_texts(cache: Path, header: TextHeader, captions: Captions) -> None:
    """Prepare a cache for texts. Raises LatteError if it contains texts made with other settings."""
    found = read_text_header(cache)
    if found is not None and (differences := found.differences(header, reading=False)):
        hint = f"remove {cache / TEXTS} to encode the captions again"
        raise LatteError(f"cache.dir: {cache}: {'; '.join(differences)}: {hint}")
    folder = cache / TEXTS
    if found is None:
        write_file(folder / TEXT_HEADER, json.dumps(header.model_dump(), indent=1) + "\n")
    if resolves_inside(cache, TEXTS):
        clear_partials(folder)
    _journal(cache).repair()
    listed = {name: list(texts) for name, texts in captions.items()}
    write_file(folder / CAPTIONS, json.dumps(listed, ensure_ascii=False, indent=1) + "\n")


def pending_texts(cache: Path, texts: Sequence[str]) -> list[str]:
    """The texts without a complete file."""
    entries = read_texts(cache)
    return [text for text in texts if text not in entries or _length_fault(cache, entries[text])]


def write_text(cache: Path, header: TextHeader, text: str, states: Array, *, tokens: int) -> None:
    """Store one text's states. Raises LatteError if they do not fit the type or cannot be written."""
    values = states.astype(header.dtype)
    if not np.isfinite(values).all():
        raise LatteError(f"cache.dtype: the states of {_short(text)} do not fit {header.dtype}: use float32")
    name = f"{sha256(text.encode()).hexdigest()[:24]}.npy"
    content = BytesIO()
    np.save(content, values)
    write_file(cache / TEXTS / name, content.getvalue())
    entry = TextEntry(
        text=text,
        tokens=tokens,
        shape=values.shape,
        dtype=header.dtype,
        checksum=checksum(values),
        encoder=header.encoder,
        file=name,
    )
    _journal(cache).append([entry])


def strike_off(cache: Path, faulty: Collection[str]) -> None:
    """Remove texts, given by the names of their faults, so that the next run encodes them again."""
    entries = read_texts(cache, skip_damaged=True)
    left = [entry for text, entry in entries.items() if caption_name(text) not in faulty]
    if len(left) < len(entries):
        _journal(cache).replace(left)


def clear_texts(cache: Path) -> None:
    """Remove all texts of a cache."""
    shutil.rmtree(cache / TEXTS, ignore_errors=True)


def check_all(
    cache: Path,
    header: Header,
    videos: Sequence[VideoFile] | None,
    texts: Sequence[str],
    *,
    unlisted: Collection[str] = (),
) -> Iterator[Checked]:
    """Check a cache's latents, then its captions' states. See `check_entries`."""
    last = 0
    for checked in check_entries(cache, header, videos, unlisted=unlisted):
        last = checked.total
        yield checked
    for checked in check_texts(cache, texts):
        yield replace(checked, done=last + checked.done, total=last + checked.total)


def check_texts(cache: Path, texts: Sequence[str]) -> Iterator[Checked]:
    """Check every entry, and that each of `texts` has one."""
    header, entries = read_text_header(cache), read_texts(cache, skip_damaged=True)
    names = list(dict.fromkeys([*entries, *texts]))
    for done, text in enumerate(names, 1):
        entry, name = entries.get(text), caption_name(text)
        if entry is None or header is None:
            fault: EntryFault | None = EntryFault("missing", name, "has no entry")
        elif entry.encoder != header.encoder:
            fault = EntryFault(
                "stale", name, f"was made with another encoder than {TEXTS}/{TEXT_HEADER} says"
            )
        else:
            reason = _length_fault(cache, entry) or _content_fault(cache, entry)
            kind: Literal["missing", "torn"] = "missing" if reason == "is missing" else "torn"
            fault = None if reason is None else EntryFault(kind, name, f"{TEXTS}/{entry.file} {reason}")
        yield Checked(done, len(names), fault)


def caption_name(text: str) -> str:
    """A caption's name in messages about faults."""
    return f"caption {_short(text)} ({sha256(text.encode()).hexdigest()[:8]})"


def captions_of(settings: Settings, names: Sequence[str]) -> Captions:
    """The captions of the named videos: from data.captions if set, else those that the cache was made with.

    Null means the .txt files next to the videos, if available. Raises LatteError like `read_captions`.
    """
    data, cache = settings.data, settings.cache.dir
    at_hand = data.root is not None and clips_root(data.root).exists()
    stored = None if cache is None else cache / TEXTS / CAPTIONS
    if data.captions is not None or at_hand or stored is None or not stored.is_file():
        return read_captions(data.captions, names, clips_root(data.root or Path()))
    found = read_json(stored, dict[str, Any], most=BULKY_BYTES)
    return {
        name: check_json(found[name], tuple[str, ...], source=f"{stored}: {name}")
        for name in names
        if name in found
    }


class StoredTexts:
    """The model's input for each text of a cache, read on demand.

    Raises LatteError if one of `texts` has no complete entry.
    """

    def __init__(self, cache: Path, header: TextHeader, texts: Sequence[str]):
        self.folder, self.kind = cache / TEXTS, header.kind
        self.entries = read_texts(cache)
        if missing := [text for text in texts if text not in self.entries]:
            count = f"{len(missing)} of {len(texts)} captions, the first {_short(missing[0])}"
            raise LatteError(f"cache.dir: {cache}: contains no states of {count}: run latte cache again")

    def __call__(self, text: str) -> Array:
        """See `states.model_input`. Raises LatteError if the file is missing or damaged."""
        entry = self.entries[text]
        path = self.folder / entry.file
        try:
            values = np.load(path, mmap_mode="r")  # a header may claim more than the file contains
        except (OSError, ValueError, EOFError) as error:
            raise LatteError(f"{path}: cannot be read; check it with latte cache --verify") from error
        if values.shape != entry.shape:
            raise LatteError(f"{path}: found an array of {values.shape}, expected {entry.shape}")
        return model_input(np.asarray(values), self.kind)


def _journal(cache: Path) -> Journal[TextEntry]:
    return Journal(cache / TEXTS / MANIFEST, TextEntry, advice=AGAIN)


def _length_fault(cache: Path, entry: TextEntry) -> str | None:
    """The fault of a text's file, judged by its length, or None."""
    try:
        size = (cache / TEXTS / entry.file).stat().st_size
    except OSError:
        return "is missing"
    expected = int(np.prod(entry.shape)) * np.dtype(entry.dtype).itemsize
    return None if expected < size <= expected + 256 else "has the wrong length"  # an .npy's header: 128


def _content_fault(cache: Path, entry: TextEntry) -> str | None:
    try:
        values: NDArray[Any] = np.load(cache / TEXTS / entry.file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return "cannot be read"
    right = values.shape == entry.shape and checksum(values) == entry.checksum
    return None if right else "does not match its checksum"


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
