"""Find the text encoder of an experiment and check that the model can use its states."""

from pathlib import Path

from latte_cli.core.checkpoints.folders import is_pipeline
from latte_cli.core.data.latent_cache.texts import TextHeader
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architectures import architecture_of
from latte_cli.core.models.text.folder import TextFolder, find_text_encoder
from latte_cli.core.settings.schema import Settings


def text_folder(settings: Settings) -> TextFolder:
    """The text encoder of an experiment; reads only its small files.

    Raises LatteError if there is none, or if the model cannot use its states.
    """
    folder = encoder_folder(settings)
    if folder is None:
        kind = architecture_of(settings).text_kind
        raise LatteError(f"text.encoder: not set, expected the folder of a {kind} text encoder")
    if not folder.is_dir():
        raise LatteError(f"text.encoder: {folder}: no such folder")
    found = find_text_encoder(folder)
    if settings.model.condition == "text":
        _check_states(settings, found, f"text.encoder: {folder}: found a {found.kind} encoder")
    return found


def encoder_folder(settings: Settings) -> Path | None:
    """The folder of the text encoder: text.encoder, else train.init_from if it contains one."""
    folder, start = settings.text.encoder, settings.train.init_from
    return start if folder is None and start is not None and is_pipeline(start) else folder


def check_cached_states(settings: Settings, header: TextHeader) -> None:
    """Raise LatteError if the model cannot use the states in the cache."""
    if settings.model.condition == "text":
        found = f"cache.dir: {settings.cache.dir}: found captions' states of a {header.kind} encoder"
        _check_states(settings, header, found)


def _check_states(settings: Settings, states: TextFolder | TextHeader, found: str) -> None:
    """Raise LatteError if the model needs states of another kind or width."""
    architecture = architecture_of(settings)
    kind, width = architecture.text_kind, architecture.text_width(settings)
    if (states.kind, states.width) != (kind, width):
        text = f"{found} of width {states.width}, expected a {kind} of width {width}"
        raise LatteError(f"{text}, for model.architecture: {settings.model.architecture}")
