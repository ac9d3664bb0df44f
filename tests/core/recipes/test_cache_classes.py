"""Classes of cached videos when folders of data.root are added and removed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latte_cli.core.data.latent_cache.manifest import MANIFEST, read_manifest
from latte_cli.core.data.latent_cache.open import open_cache
from latte_cli.core.errors import LatteError
from latte_cli.core.recipes import cache
from latte_cli.core.settings.schema import CacheSettings, DataSettings, ModelSettings, Settings, VaeSettings

Array = NDArray[np.float32]
TYPES: tuple[Literal["numpy", "mindrecord"], ...] = ("numpy", "mindrecord")


def encode(frames: Array) -> Array:
    """Moments (N, 8, h, w) of frames (N, 3, H, W): the mean of each block of pixels, repeated."""
    side = frames.shape[-1] // 8
    means = frames.reshape(len(frames), 3, side, 8, side, 8).mean((1, 3, 5))
    return np.repeat(means[:, None], 8, axis=1)


def run(settings: Settings) -> int:
    """Run to the end; returns the number of saved videos."""
    caching = cache.CacheRun(settings, encode=encode)
    list(caching)
    return caching.status.saved


def add_videos(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True)
        for frame in range(5):
            Image.new("RGB", (8, 8)).save(root / name / f"{frame}.bmp")


def classes(settings: Settings) -> dict[str, int | None]:
    """The class of each video that training gets."""
    index, source = open_cache(settings)
    return dict(zip([video.name for video in index.videos], source.labels, strict=True))


def forget_classes(folder: Path) -> None:
    """Change a manifest to one of the version that did not store classes."""
    lines = [json.loads(line) for line in (folder / MANIFEST).read_text().splitlines()]
    for line in lines:
        del line["class_name"], line["label"]
    (folder / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def cached(tmp_path: Path) -> Callable[..., Settings]:
    """cached(type, num_classes=3): settings of a filled cache of three classes, a video each."""

    def make(kind: Any = "numpy", *, num_classes: int | None = 3) -> Settings:
        if not (tmp_path / "root").exists():
            add_videos(tmp_path / "root", "ant/a", "bee/a", "cow/a")
        (tmp_path / "vae.ckpt").write_bytes(b"weights")
        condition: Any = "none" if num_classes is None else "class"
        settings = Settings(
            data=DataSettings(root=tmp_path / "root", image_size=8, num_frames=2, frame_stride=1),
            vae=VaeSettings(weights=str(tmp_path / "vae.ckpt")),
            model=ModelSettings(condition=condition, num_classes=num_classes),
            cache=CacheSettings(dir=tmp_path / "cache", type=kind),
        )
        run(settings)
        return settings

    return make


@pytest.mark.parametrize("kind", TYPES)
def test_classes_do_not_change_when_folders_are_removed(
    kind: str, cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached(kind)
    stayed = {"ant/a": 0, "bee/a": 1, "cow/a": 2}
    for name in ("ant", "cow"):
        shutil.rmtree(tmp_path / "root" / name)
        assert classes(settings) == stayed
    add_videos(tmp_path / "root", "cow/b")
    assert run(settings) == 1
    assert classes(settings) == stayed | {"cow/b": 2}
    shutil.rmtree(tmp_path / "root")
    assert classes(settings) == stayed | {"cow/b": 2}
    entry = read_manifest(tmp_path / "cache")["cow/b"]
    assert (entry.class_name, entry.label) == ("cow", 2)


def test_a_new_class_gets_its_sorted_number_if_possible_or_the_next_one(
    cached: Callable[..., Settings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = cached()
    add_videos(tmp_path / "root", "dog/a", "fox/a")
    run(settings)
    known = {"ant/a": 0, "bee/a": 1, "cow/a": 2, "dog/a": 3, "fox/a": 4}
    assert classes(settings) == known
    assert caplog.messages == []
    add_videos(tmp_path / "root", "eel/a")
    run(settings)
    assert classes(settings) == known | {"eel/a": 5}
    assert caplog.messages == ["new class eel gets number 5; the others keep their numbers"]
    run(settings)
    assert len(caplog.messages) == 1


def test_a_class_without_a_cached_video_keeps_its_number(
    cached: Callable[..., Settings], tmp_path: Path
) -> None:
    add_videos(tmp_path / "root", "ant/a", "bee/a", "cow/a")
    (tmp_path / "root" / "bee" / "a" / "3.bmp").write_bytes(b"torn")
    with pytest.raises(LatteError, match="1 of 3 videos could not be cached"):
        cached()
    Image.new("RGB", (8, 8)).save(tmp_path / "root" / "bee" / "a" / "3.bmp")
    assert classes(cached()) == {"ant/a": 0, "bee/a": 1, "cow/a": 2}


def test_a_class_list_replaces_stored_classes(cached: Callable[..., Settings], tmp_path: Path) -> None:
    settings = cached()
    (tmp_path / "list.txt").write_text("ant 2\nbee 0\ncow 1\n")
    data = settings.data.model_copy(update={"labels": tmp_path / "list.txt"})
    listed = settings.model_copy(update={"data": data})
    chosen = {"ant/a": 2, "bee/a": 0, "cow/a": 1}
    assert classes(listed) == chosen
    assert classes(settings) == {"ant/a": 0, "bee/a": 1, "cow/a": 2}
    assert run(listed) == 0
    assert classes(settings) == chosen


def test_the_classes_of_an_older_cache_are_numbered_by_all_of_its_folders(
    cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached()
    numbered = {"ant/a": 0, "bee/a": 1, "cow/a": 2}
    forget_classes(tmp_path / "cache")
    assert classes(settings) == numbered
    shutil.move(tmp_path / "root", tmp_path / "gone")
    assert classes(settings) == numbered  # model.num_classes is the number of its folders
    shutil.move(tmp_path / "gone", tmp_path / "root")
    assert run(settings) == 0
    shutil.rmtree(tmp_path / "root" / "ant")
    wider = settings.model_copy(update={"model": ModelSettings(condition="class", num_classes=9)})
    assert classes(wider) == numbered


def test_an_older_cache_that_can_lack_classes_is_rejected_only_for_class_conditional_models(
    cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached(num_classes=9)
    forget_classes(tmp_path / "cache")
    shutil.rmtree(tmp_path / "root" / "bee")
    with pytest.raises(LatteError) as caught:
        open_cache(settings)
    assert str(caught.value) == (
        f"cache.dir: {tmp_path}/cache: the classes of its videos are not stored, and data.root has no folder "
        "bee: set data.root to the folder of all videos, or set data.labels"
    )
    numbered = {"ant/a": 0, "bee/a": 1, "cow/a": 2}
    assert classes(settings.model_copy(update={"model": ModelSettings()})) == numbered
    (tmp_path / "list.txt").write_text("ant 0\nbee 1\ncow 2\n")
    data = settings.data.model_copy(update={"labels": tmp_path / "list.txt"})
    assert classes(settings.model_copy(update={"data": data})) == numbered
    add_videos(tmp_path / "root", "bee/a", "dog/a")
    assert classes(settings) == numbered


def test_no_class_is_stored_if_an_older_cache_can_lack_classes(
    cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached(num_classes=9)
    forget_classes(tmp_path / "cache")
    shutil.rmtree(tmp_path / "root" / "ant")
    add_videos(tmp_path / "root", "dog/a")
    assert run(settings) == 1
    with pytest.raises(LatteError, match="has no folder ant"):
        open_cache(settings)
    add_videos(tmp_path / "root", "ant/a")
    run(settings)
    assert classes(settings) == {"ant/a": 0, "bee/a": 1, "cow/a": 2, "dog/a": 3}


def test_classes_of_a_mindone_cache_are_numbered_by_all_folders_or_rejected(
    cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached()
    for name in ("bee/a", "cow/a"):
        (tmp_path / "mindone" / name).mkdir(parents=True)
        for frame in range(4):
            np.save(tmp_path / f"mindone/{name}/video_latent-{frame}.npy", np.zeros((4, 1, 1), np.float32))
    theirs = settings.model_copy(update={"cache": CacheSettings(dir=tmp_path / "mindone")})
    assert classes(theirs) == {"bee/a": 1, "cow/a": 2}
    shutil.rmtree(tmp_path / "root")
    with pytest.raises(LatteError, match=r"has no folder bee: set data.root to the folder of all videos"):
        open_cache(theirs)
