"""Open a video of any type by its path."""

import stat
from pathlib import Path

from latte_cli.core.data.videos.folders import GIF_SUFFIX, MOVIE_SUFFIXES, VIDEO_SUFFIXES
from latte_cli.core.data.videos.images import FrameFolder, Gif
from latte_cli.core.data.videos.movie import Movie
from latte_cli.core.data.videos.video import Video, VideoError, check_regular


def open_video(path: Path) -> Video:
    """Open a folder of images, a GIF or a movie file. Raises VideoError for anything else."""
    suffix = path.suffix.lower()
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            return FrameFolder(path)
        check_regular(path)
        if suffix == GIF_SUFFIX:
            return Gif(path)
        if suffix in MOVIE_SUFFIXES:
            return Movie(path)
    except FileNotFoundError as error:
        raise VideoError(path, "no such file or folder") from error
    except OSError as error:
        raise VideoError(path, error.strerror or str(error)) from error
    raise VideoError(
        path, f"not a video: expected a folder of images or one of {', '.join(sorted(VIDEO_SUFFIXES))}"
    )
