"""Encode captions once and store their states in a cache."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from latte_cli.core.arrays import Array
from latte_cli.core.data.captions.files import texts_of
from latte_cli.core.data.captions.states import states_to_store
from latte_cli.core.data.latent_cache.texts import (
    TextHeader,
    begin_texts,
    captions_of,
    pending_texts,
    read_text_header,
    write_text,
)
from latte_cli.core.data.videos.find import VideoFile
from latte_cli.core.errors import LatteError
from latte_cli.core.models.conditions.encoder import check_cached_states, encoder_folder, text_folder
from latte_cli.core.settings.schema import Settings

log = logging.getLogger(__name__)


def stores_texts(settings: Settings) -> bool:
    """Whether a cache made with these settings contains captions' states."""
    return settings.model.condition == "text" or settings.text.encoder is not None


def text_header(settings: Settings) -> TextHeader:
    """The header of texts encoded with these settings. Raises LatteError like `text_folder`."""
    from latte_cli.core.models.text.encoder import encoder_digest

    folder = text_folder(settings)
    return TextHeader(
        encoder=encoder_digest(folder),
        kind=folder.kind,
        width=folder.width,
        arithmetic=settings.text.dtype,
        dtype=settings.cache.dtype,
        clean_caption=settings.text.clean_caption and folder.kind == "t5",
    )


def cache_texts(settings: Settings, cache: Path, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Encode the captions of the named videos that are not yet in the cache; yields (done, total)."""
    captions = captions_of(settings, names)
    if missing := len(names) - len(captions):
        log.warning("%d of %d videos have no caption; training will skip them", missing, len(names))
    header = text_header(settings)
    begin_texts(cache, header, captions)
    todo = pending_texts(cache, texts_of(captions))
    if not todo:
        return
    for done, (text, tokens, states) in enumerate(encode_texts(settings, todo), 1):
        write_text(cache, header, text, states, tokens=tokens)
        yield done, len(todo)


def texts_to_check(settings: Settings, videos: Sequence[VideoFile] | None) -> list[str]:
    """The texts that a cache should contain, if it stores captions and the videos are available.

    Raises LatteError if the cached texts were made with another encoder than in the settings.
    """
    cached_header(settings)
    if not stores_texts(settings) or videos is None:
        return []
    return texts_of(captions_of(settings, [video.name for video in videos]))


def encode_texts(settings: Settings, texts: Sequence[str]) -> Iterator[tuple[str, int, Array]]:
    """Each text, its number of tokens and its states to store."""
    from latte_cli.core.machine.device import use_device
    from latte_cli.core.models.text.encoder import TextEncoder

    use_device(settings.device)
    folder = text_folder(settings)
    dtype, clean_caption = settings.text.dtype, settings.text.clean_caption
    encoder = TextEncoder(folder, dtype=dtype, clean_caption=clean_caption)
    for text, encoded in zip(texts, encoder.encode_all(texts), strict=True):
        yield text, encoded.tokens, states_to_store(encoded.states, encoded.tokens, folder.kind)


def cached_header(settings: Settings) -> TextHeader | None:
    """The header of the texts in the cache, or None if it has none.

    Raises LatteError if the model cannot use them, or if this run has another encoder. If the encoder of this
    run is not available, that of the cache is assumed.
    """
    found, encoder = read_text_header(settings.cache.dir), encoder_folder(settings)
    if found is not None:
        check_cached_states(settings, found)
    if found is None or encoder is None or not encoder.is_dir():
        return found
    differences = found.differences(text_header(settings), reading=True)
    if differences:
        raise LatteError(f"cache.dir: {settings.cache.dir}: {'; '.join(differences)}")
    return found
