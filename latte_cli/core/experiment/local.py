"""Replace the published names in settings by local paths."""

from pathlib import Path
from typing import Any

from latte_cli.core.checkpoints.published import Hub
from latte_cli.core.checkpoints.runs import checkpoints, holds_lora
from latte_cli.core.data.latent_cache.texts import read_text_header
from latte_cli.core.experiment.rules import Command
from latte_cli.core.settings.schema import Settings

TEXT_PARTS = ("text_encoder", "tokenizer")


def local_settings(
    settings: Settings, hub: Hub, command: Command, *, checkpoint: Path | None = None, decodes: bool = True
) -> Settings:
    """The settings with local paths instead of the published names that `command` needs.

    checkpoint: the one to sample from, if not that of the settings. decodes: whether latents are decoded.
    Raises LatteError like `Hub.local`.
    """
    sample, text, train = settings.sample, settings.text, settings.train
    if command == "sample" and checkpoint is None and not checkpoints(settings.run_dir / "ckpt"):
        checkpoint = sample.pretrained
    if checkpoint is not None and checkpoint == sample.pretrained:
        checkpoint = hub.local(checkpoint, ("transformer",))
        settings = _with(settings, "sample", pretrained=checkpoint)
    if settings.vae.weights is not None and decodes:
        weights = hub.local(Path(settings.vae.weights), ("vae",))
        settings = _with(settings, "vae", weights=str(weights))
    parts: tuple[str, ...] = ()
    if _encodes_text(settings, command):
        if text.encoder is None:
            parts = TEXT_PARTS
        else:
            settings = _with(settings, "text", encoder=hub.local(text.encoder, TEXT_PARTS))
    if command == "train" or (command == "sample" and holds_lora(settings, checkpoint)):
        parts = ("transformer", *parts)
    if parts and train.init_from is not None:
        settings = _with(settings, "train", init_from=hub.local(train.init_from, parts))
    return settings


def local_pipeline(settings: Settings, hub: Hub, *, decodes: bool, num_frames: int | None) -> Settings:
    """The settings with the local path of sample.pipeline. num_frames: None means as trained."""
    pipeline = settings.sample.pipeline
    if pipeline is None:
        return settings
    temporal = (
        num_frames != 1 if settings.sample.temporal_decoder == "auto" else settings.sample.temporal_decoder
    )
    parts = pipeline_parts(decodes=decodes, temporal=temporal)
    return _with(settings, "sample", pipeline=hub.local(pipeline, parts))


def pipeline_parts(*, decodes: bool, temporal: bool) -> tuple[str, ...]:
    """The needed parts of a pipeline folder. temporal: whether its temporal decoder, if any, is used."""
    decoder = ("vae/config.json", "vae_temporal_decoder|vae" if temporal else "vae") if decodes else ()
    return ("transformer", *TEXT_PARTS, "scheduler", *decoder)


def _encodes_text(settings: Settings, command: Command) -> bool:
    """Whether a text encoder is used: not if the captions' states are in a cache."""
    if command == "train" and read_text_header(settings.cache.dir) is not None:
        return False
    of_model = settings.model.condition == "text"
    return command != "bench" and (of_model or (command == "cache" and settings.text.encoder is not None))


def _with(settings: Settings, section: str, **values: Any) -> Settings:
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})
