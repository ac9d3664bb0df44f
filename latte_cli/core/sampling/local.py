"""Replace the published names in requests and specs by local paths."""

from dataclasses import replace
from pathlib import Path

from latte_cli.core.checkpoints.published import Hub, local_lora
from latte_cli.core.experiment.local import local_pipeline, local_settings, pipeline_parts
from latte_cli.core.sampling.spec import PipelineSpec, Request, RunSpec
from latte_cli.core.sampling.write import LATENTS
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.hub import is_name


def local_request(
    settings: Settings, request: Request, hub: Hub, *, decodes: bool = True
) -> tuple[Settings, Request]:
    """Settings and request with local paths instead of published names. Raises LatteError like `Hub.local`.

    decodes: whether latents are decoded for any of the formats.
    """
    decodes = decodes and (request.formats is None or set(request.formats) != {LATENTS})
    if settings.sample.pipeline is None:
        settings = local_settings(settings, hub, "sample", checkpoint=request.checkpoint, decodes=decodes)
    else:
        settings = local_pipeline(settings, hub, decodes=decodes, num_frames=request.num_frames)
    if request.checkpoint is not None:
        request = replace(request, checkpoint=hub.local(request.checkpoint, ("transformer",)))
    request = replace(request, lora=local_lora(request.lora, hub))
    return settings, request


def local_spec(spec: RunSpec | PipelineSpec, hub: Hub) -> RunSpec | PipelineSpec:
    """A clip's spec with local paths instead of published names. Raises LatteError like `Hub.local`."""
    decodes = set(spec.formats) != {LATENTS}
    if isinstance(spec, PipelineSpec):
        parts = pipeline_parts(decodes=decodes, temporal=spec.temporal_decoder)
        update: dict[str, object] = {"pipeline": hub.local(spec.pipeline, parts)}
    else:
        checkpoint = hub.local(spec.checkpoint, ("transformer",))
        settings = local_settings(spec.settings, hub, "sample", checkpoint=spec.checkpoint, decodes=decodes)
        update = {"checkpoint": checkpoint, "settings": settings}
    # Files of published names have been found by now, unless they are absent.
    digests = {
        str(Hub().local(Path(name))) if is_name(name) else name: digest
        for name, digest in spec.sha256.items()
    }
    return spec.model_copy(update={**update, "lora": local_lora(spec.lora, hub), "sha256": digests})
