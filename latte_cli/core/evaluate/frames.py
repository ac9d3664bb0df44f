"""Resize frames for comparison and for I3D."""

import numpy as np
from PIL import Image

from latte_cli.core.arrays import Array
from latte_cli.core.data.videos.transforms import to_pixels, to_uint8
from latte_cli.core.errors import LatteError
from latte_cli.core.evaluate.clips import ClipSet, Frames, Place, read_frames
from latte_cli.core.evaluate.protocol import Protocol
from latte_cli.core.models.i3d.layers import IMAGE_SIZE


def common_size(generated: ClipSet, protocol: Protocol) -> int:
    """The size to which all frames are resized: the protocol's, else that of the first generated clip."""
    if protocol.size is not None:
        return protocol.size
    return min(read_frames(Place(generated.items[0], (0,))).shape[1:3])


def squares(place: Place, size: int, protocol: Protocol, *, generated: bool) -> Frames:
    """A clip as (F, size, size, 3).

    Raises LatteError if a generated clip differs in size from the first one.
    """
    frames = read_frames(place)
    height, width = frames.shape[1:3]
    if generated and protocol.size is None and min(height, width) != size:
        raise LatteError(
            f"{place.item.name}: is {width}x{height}, but the first generated clip is {size} pixels high or"
            " wide; expected clips of the same size, or --size"
        )
    if (height, width) == (size, size):
        return frames
    return to_uint8(to_pixels(frames, size, protocol.transform, mirror=False))


def network_input(frames: Frames, *, antialias: bool) -> Array:
    """Convert square frames (F, S, S, 3) to I3D's input: (F, 3, 224, 224) in [-1, 1], x / 255 * 2 - 1.

    Bilinear with align_corners false, as in StyleGAN-V. antialias: smooth when downscaling (Pillow).
    """
    if not antialias or frames.shape[1] <= IMAGE_SIZE:
        return to_pixels(frames, IMAGE_SIZE, "crop_resize", mirror=False)
    planes = frames.transpose(0, 3, 1, 2).astype(np.float32)
    size = (IMAGE_SIZE, IMAGE_SIZE)
    resized = [
        [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR)) for plane in frame]
        for frame in planes
    ]
    return np.asarray(resized, np.float32) * np.float32(2 / 255) - np.float32(1)
