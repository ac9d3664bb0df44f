"""The clips that training can take from its videos, to compare samples with."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.data.clips.frames import FrameSource
from latte_cli.core.data.videos.find import index_clips
from latte_cli.core.data.videos.transforms import clip_indices, last_begin
from latte_cli.core.evaluate.pixels import psnr, squared_distances
from latte_cli.core.settings.schema import Settings


def training_clips(settings: Settings) -> Iterator[tuple[NDArray[np.uint8], str, int | None]]:
    """Every clip that training can take, (F, H, W, 3), with the name and the class of its video."""
    data = settings.data
    source = FrameSource(index_clips(data), data)
    for video, total in enumerate(source.frames):
        pixels = source.read(video, list(range(total)), mirror=False)
        frames = np.round((pixels + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
        for begin in range(last_begin(total, data.num_frames, data.frame_stride) + 1):
            cut = {"num_frames": data.num_frames, "frame_stride": data.frame_stride}
            clip = frames[clip_indices(begin, total, **cut, spacing=data.spacing)]
            yield clip, source.names[video], source.labels[video]


def nearest_psnr(clip: NDArray[np.uint8], clips: NDArray[np.uint8]) -> tuple[float, int]:
    """PSNR in dB of `clip` (F, H, W, 3) to the nearest of `clips`, and the index of that."""
    distances = squared_distances(clip[None], clips)[0]
    nearest = int(distances.argmin())
    return psnr(int(distances[nearest]), clip.size), nearest
