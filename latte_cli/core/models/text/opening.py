"""A text encoder's folder opened: its configuration, and its weights, which fit it."""

from collections.abc import Mapping
from typing import Any

from latte_cli.core.models.text.config import Config, parse_config
from latte_cli.core.models.text.folder import TextFolder
from latte_cli.core.models.text.weights import StreamedWeights
from latte_cli.core.storage.json_files import read_json


def open_encoder(
    folder: TextFolder, kind: type[Config], aliases: Mapping[str, str]
) -> tuple[Config, StreamedWeights]:
    """What a folder says of its encoder, and its weights, still in their files.

    Raises LatteError naming the field or weight at fault.
    """
    path = folder.encoder / "config.json"
    content = read_json(path, dict[str, Any])
    config = parse_config(kind, content.get("text_config") or content, source=str(path))
    return config, StreamedWeights(folder.encoder, config.shapes(), aliases)
