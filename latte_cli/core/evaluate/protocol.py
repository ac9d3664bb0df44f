"""The protocol of an evaluation: every choice that must be the same for comparable figures."""

from dataclasses import asdict, dataclass, replace
from typing import Literal

from latte_cli.core.data.videos.transforms import Transform
from latte_cli.core.errors import LatteError

Metric = Literal["fvd", "psnr", "ssim"]
METRICS: tuple[Metric, ...] = ("fvd", "psnr", "ssim")


@dataclass(frozen=True)
class Protocol:
    """The choices of an evaluation. Generated clips use consecutive frames from the first."""

    name: str = "default"
    metrics: tuple[Metric, ...] = METRICS
    clips: int | None = None
    """Clips per set; null: all generated clips, and as many real ones."""
    num_frames: int = 16
    real_stride: int = 1
    """Source frames between consecutive frames of a real clip."""
    size: int | None = None
    """Size in pixels to which frames are resized first; null: that of the generated clips."""
    transform: Transform = "crop_resize"
    """How frames are cropped and resized to that size: data.transform."""
    antialias: bool = False
    """Whether to antialias when resizing to the network's 224 pixels. StyleGAN-V does not."""
    draws: int = 3
    seed: int = 0


# Ma et al. 2024 (arXiv 2401.03048), section 4.1, with Vchitect/Latte's tools/metrics.
LATTE = Protocol(name="latte", metrics=("fvd",), clips=2048, num_frames=16, real_stride=3, size=256)
PROTOCOLS = {protocol.name: protocol for protocol in (Protocol(), LATTE)}


def choose(name: str, **choices: object) -> Protocol:
    """A protocol by name, with the choices that are not None applied."""
    given = {key: value for key, value in choices.items() if value is not None}
    protocol = replace(PROTOCOLS[name], **given)  # type: ignore[arg-type]
    changed = [
        key for key in given if getattr(PROTOCOLS[name], key) != given[key] and key not in ("draws", "seed")
    ]
    return replace(protocol, name=f"{name}, changed") if changed and name != Protocol.name else protocol


def parse_metrics(text: str) -> tuple[Metric, ...]:
    """Parse a list such as "fvd,psnr", in the order of METRICS. Raises LatteError for unknown names."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METRICS:
            raise LatteError(f"--metrics: found {name!r}, expected {', '.join(METRICS)}, separated by commas")
    return tuple(metric for metric in METRICS if metric in names)


def described(protocol: Protocol) -> dict[str, object]:
    """The choices by name, for reports."""
    choices = asdict(protocol)
    return {
        "protocol": choices.pop("name"),
        **choices,
        "metrics": list(protocol.metrics),
        "generated_stride": 1,
        "generated_start": "the first frame",
        "real_start": "drawn from the seed",
        "crop": "the largest centred square"
        if protocol.transform == "crop_resize"
        else "the centre, after resizing",
        "resize": "bilinear, align_corners false",
        "covariance": "N - 1",
    }
