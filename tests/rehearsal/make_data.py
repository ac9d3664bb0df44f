"""Make data sets of real sizes: `python -m tests.rehearsal.make_data FOLDER`.

FOLDER/movies gets 5,000 movie files (--movies), in 50 folders; FOLDER/frames gets 1,000,000 JPEG frames
(--frames), in folders of 1,000. They are hard links to one short movie, and to one small image in each
folder, so that they take little disk.
Then, for example, each twice, to see what the second start costs:

    latte train --data FOLDER/movies --dry-run
    latte train --data FOLDER/frames --dry-run
"""

import argparse
import os
import subprocess
from pathlib import Path

import imageio_ffmpeg
from PIL import Image

CLASSES = 50
FRAMES_IN_FOLDER = 1000
LINKS = 10_000  # to one file: ext4 allows 65,000


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--movies", type=int, default=5000)
    parser.add_argument("--frames", type=int, default=1_000_000)
    arguments = parser.parse_args()
    make_movies(arguments.folder / "movies", arguments.movies)
    make_frames(arguments.folder / "frames", arguments.frames)


def make_movies(folder: Path, count: int) -> None:
    """Write `count` movies of 64 frames."""
    for number in range(count):
        path = folder / f"class{number % CLASSES:02d}" / f"movie{number:06d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % LINKS == 0:
            source = path
            _write_movie(source)
        else:
            os.link(source, path)


def make_frames(folder: Path, count: int) -> None:
    """Write `count` frames into folders of FRAMES_IN_FOLDER."""
    for start in range(0, count, FRAMES_IN_FOLDER):
        video = folder / f"video{start // FRAMES_IN_FOLDER:06d}"
        video.mkdir(parents=True)
        first = video / "frame000000.jpg"
        Image.linear_gradient("L").resize((64, 48)).save(first)
        for number in range(1, min(FRAMES_IN_FOLDER, count - start)):
            os.link(first, video / f"frame{number:06d}.jpg")


def _write_movie(path: Path) -> None:
    """Write a movie of 64 frames of 64 x 48 pixels."""
    source = "testsrc=size=64x48:rate=25:duration=2.56"
    encoding = ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([ffmpeg, "-loglevel", "error", "-f", "lavfi", "-i", source, *encoding, path], check=True)


if __name__ == "__main__":
    main()
