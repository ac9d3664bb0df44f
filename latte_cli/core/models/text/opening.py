"""Open a text encoder's folder: its configuration and matching weights."""

from collections.abc import Mapping
from typing import Any

from latte_cli.core.models.text.config import Config, parse_config
from latte_cli.core.models.text.folder import TextFolder
from latte_cli.core.models.text.weights import StreamedWeights
from latte_cli.core.storage.json_files import read_json


def open_encoder(
    folder: TextFolder, kind: type[Config], aliases: Mapping[str, str]
) -> tuple[Config, StreamedWeights]:
    """The encoder's configuration, and its weights, read on demand.

    Raises LatteError naming an invalid field or weight.
    """
    path = folder.encoder / "config.json"
    content = read_json(path, dict[str, Any])
    config = parse_config(kind, content.get("text_config") or content, source=str(path))
    return config, StreamedWeights(folder.encoder, config.shapes(), aliases)
