"""Caches whose files are damaged or missing, or whose videos have changed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latte_cli.core.data.latent_cache.manifest import HEADER, MANIFEST, read_manifest
from latte_cli.core.data.latent_cache.open import open_cache
from latte_cli.core.data.latent_cache.plan import PLAN
from latte_cli.core.data.videos.video import VideoError
from latte_cli.core.errors import LatteError
from latte_cli.core.recipes import cache
from latte_cli.core.settings.schema import CacheSettings, DataSettings, Settings, VaeSettings

Array = NDArray[np.float32]
TYPES: tuple[Literal["numpy", "mindrecord"], ...] = ("numpy", "mindrecord")
FRAMES = 9


def encode(frames: Array) -> Array:
    """Moments (N, 8, h, w) of frames (N, 3, H, W): the mean of each block of pixels, repeated."""
    side = frames.shape[-1] // 8
    means = frames.reshape(len(frames), 3, side, 8, side, 8).mean((1, 3, 5))
    return np.repeat(means[:, None], 8, axis=1)


@pytest.fixture
def cached(tmp_path: Path) -> Callable[..., Settings]:
    """cached(type): settings of a filled cache of four videos of one colour each, in two folders."""
    for number, name in enumerate(("cats/a", "cats/b", "dogs/a", "dogs/b")):
        (tmp_path / "root" / name).mkdir(parents=True)
        for frame in range(FRAMES):
            colour = (40 * number,) * 3
            Image.new("RGB", (16, 16), colour).save(tmp_path / "root" / name / f"{frame}.bmp")
    (tmp_path / "vae.ckpt").write_bytes(b"weights")

    def make(kind: Any) -> Settings:
        settings = Settings(
            data=DataSettings(root=tmp_path / "root", image_size=16, num_frames=4, frame_stride=2),
            vae=VaeSettings(weights=str(tmp_path / "vae.ckpt")),
            cache=CacheSettings(dir=tmp_path / "cache", type=kind),
        )
        assert run(settings) == 4
        return settings

    return make


def run(settings: Settings) -> int:
    """Run to the end; returns the number of saved videos."""
    caching = cache.CacheRun(settings, encode=encode)
    list(caching)
    return caching.status.saved


def faults(settings: Settings, *, repair: bool = False) -> list[tuple[str, str]]:
    return [
        (checked.fault.kind, checked.fault.name)
        for checked in cache.verify(settings, repair=repair)
        if checked.fault
    ]


def add_video(settings: Settings, name: str) -> None:
    assert settings.data.root is not None
    shutil.copytree(settings.data.root / "cats" / "a", settings.data.root / name)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    "damage", [{"shape": ["x", 1]}, {"name": 7}, {"frames": None}, {"dtype": "float8"}, {"file": []}]
)
def test_an_invalid_line_of_the_manifest_loses_only_that_entry(
    damage: dict[str, Any],
    kind: str,
    cached: Callable[..., Settings],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = cached(kind)
    manifest = tmp_path / "cache" / MANIFEST
    lines = manifest.read_text().splitlines()
    damaged = json.dumps(json.loads(lines[1]) | damage)
    manifest.write_text("\n".join([lines[0], damaged, '["no entry"]', *lines[2:]]) + "\n")
    with pytest.raises(LatteError, match=r"manifest\.jsonl: line 2: \w+.*: found .*, expected .*"):
        open_cache(settings)
    assert faults(settings) == [("missing", "cats/b")]
    assert [message.split(": ")[1] for message in caplog.messages] == ["line 2", "line 3"]
    assert run(settings) == 1
    assert faults(settings) == []
    assert len(open_cache(settings)[1].names) == 4


def times_1000(value: Any) -> Any:
    """A JSON value with every integer multiplied by a thousand."""
    if isinstance(value, dict):
        return {key: times_1000(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [times_1000(inner) for inner in value]
    return value * 1000 if isinstance(value, int) and not isinstance(value, bool) else value


def rewrite(manifest: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change every entry of a manifest."""
    entries = [change(json.loads(line)) for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.mark.parametrize("kind", TYPES)
def test_a_manifest_of_other_sizes_is_rejected_and_can_be_repaired(
    kind: str, cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings, manifest = cached(kind), tmp_path / "cache" / MANIFEST
    rewrite(manifest, times_1000)
    with pytest.raises(LatteError) as caught:
        open_cache(settings)
    shapes = "shape: found (9000, 8000, 2000, 2000), expected (9000, 8, 2, 2)"
    assert (
        str(caught.value) == f"{manifest}: cats/a: {shapes}; run latte cache to encode damaged entries again"
    )
    assert {fault for fault, _ in faults(settings)} == {"torn"}
    assert run(settings) == 4
    assert faults(settings) == []


@pytest.mark.parametrize("kind", TYPES)
def test_frames_beyond_the_end_of_a_file_are_never_read(
    kind: str, cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached(kind)
    more = {"frames": 1000 * FRAMES, "shape": [1000 * FRAMES, 8, 2, 2]}
    rewrite(tmp_path / "cache" / MANIFEST, lambda entry: entry | more)
    _, source = open_cache(settings)
    with pytest.raises(VideoError):
        source.read(0, [0, 999], mirror=False)
    assert {fault for fault, _ in faults(settings)} == {"torn"}


@pytest.mark.parametrize("content", [bytes(range(11, 256)), b"\xff\n\x00{\n", b"[" * 100_000])
def test_a_manifest_with_other_content_is_rejected(
    content: bytes, cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings, manifest = cached("numpy"), tmp_path / "cache" / MANIFEST
    manifest.write_bytes(content)
    with pytest.raises(LatteError) as caught:
        open_cache(settings)
    assert str(caught.value).startswith(f"{manifest}: line 1: cannot be read as JSON")
    assert run(settings) == 4
    assert faults(settings) == []


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("file", ["../../../../etc/passwd", "/etc/passwd", "latents/../../x.npy"])
def test_a_file_outside_the_cache_is_never_opened(
    file: str, kind: str, cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings, manifest = cached(kind), tmp_path / "cache" / MANIFEST
    rewrite(manifest, lambda entry: entry | {"file": file})
    with pytest.raises(LatteError) as caught:
        open_cache(settings)
    fault = f'line 1: file: found "{file}", expected a path inside the folder'
    assert str(caught.value).startswith(f"{manifest}: {fault}")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ({"image_size": 16000}, "data.image_size: the cache was made with 16000, this run has 16"),
        ({"image_size": "16"}, 'image_size: found "16", expected an integer'),
        ({"rows": [4, 4]}, "rows: found a list, expected more frames than are repeated"),
        ({"rows": None}, "rows: found null, expected those of type mindrecord"),
        ({"type": "numpy"}, "rows: found a list, expected those of type numpy"),
        ({"format": 2}, "format: found 2, expected 1"),
        ({"later": 1}, "later: unknown key"),
    ],
)
def test_a_header_with_wrong_values_gives_a_one_line_error(
    damage: dict[str, Any], fault: str, cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings, header = cached("mindrecord"), tmp_path / "cache" / HEADER
    header.write_text(json.dumps(json.loads(header.read_text()) | damage))
    with pytest.raises(LatteError) as caught:
        open_cache(settings)
    assert str(caught.value).endswith(f": {fault}")


def move_shards(source: Path, target: Path) -> None:
    for path in source.glob("shard-*"):
        path.replace(target / path.name)


def test_shards_of_a_cache_with_other_settings_are_rejected(
    cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached("mindrecord")
    other = CacheSettings(dir=tmp_path / "other", type="mindrecord", dtype="float32")
    run(settings.model_copy(update={"cache": other}))
    move_shards(tmp_path / "other", tmp_path / "cache")
    with pytest.raises(LatteError) as caught:
        open_cache(settings)
    shard = tmp_path / "cache" / "shard-00000.mindrecord"
    assert str(caught.value) == f"{shard}: belongs to another cache: it was made with other settings"
    assert {kind for kind, _ in faults(settings)} == {"torn"}


def test_shards_of_other_videos_are_detected_by_their_checksums(
    cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached("mindrecord")
    other = CacheSettings(dir=tmp_path / "other", type="mindrecord")
    list(
        cache.CacheRun(
            settings.model_copy(update={"cache": other}),
            encode=lambda frames: encode(frames) + 1,
        )
    )
    move_shards(tmp_path / "other", tmp_path / "cache")
    assert {kind for kind, _ in faults(settings)} == {"torn"}
    assert faults(settings, repair=True)
    assert run(settings) == 4


@pytest.mark.parametrize("kind", TYPES)
def test_videos_can_be_in_a_folder_whose_name_is_not_utf_8(
    kind: str, cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached(kind)
    elsewhere = tmp_path / os.fsdecode(b"caf\xe9")
    (tmp_path / "root").rename(elsewhere)
    moved = settings.model_copy(
        update={
            "data": settings.data.model_copy(update={"root": elsewhere}),
            "cache": settings.cache.model_copy(update={"dir": tmp_path / "new"}),
        }
    )
    assert run(moved) == 4
    assert faults(moved) == []
    assert {entry.source[-11:] for entry in read_manifest(tmp_path / "new").values()} >= {r"\xe9/cats/a"}


def test_a_link_in_place_of_a_temporary_folder_is_removed_but_not_its_target(
    cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings, home = cached("mindrecord"), tmp_path / "home"
    home.mkdir()
    (home / "precious").touch()
    (home / ".precious.partial").touch()
    for name in (".shard-00001", ".spool", "latents"):
        (tmp_path / "cache" / name).symlink_to(home)
    add_video(settings, "cats/c")
    assert run(settings) == 1
    assert sorted(path.name for path in home.iterdir()) == [".precious.partial", "precious"]


def test_repair_removes_nothing_through_a_link(cached: Callable[..., Settings], tmp_path: Path) -> None:
    settings, home = cached("numpy"), tmp_path / "home"
    (tmp_path / "cache" / "latents").rename(home)
    (tmp_path / "cache" / "latents").symlink_to(home)
    for path in home.iterdir():
        path.write_text("precious")
    assert len(faults(settings, repair=True)) == 4
    assert {path.read_text() for path in home.iterdir()} == {"precious"}


@pytest.mark.parametrize("plan", [None, "no JSON"])
def test_a_missing_or_invalid_plan_of_shards_loses_no_shards(
    plan: str | None, cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached("mindrecord")
    (tmp_path / "cache" / PLAN).unlink()
    if plan is not None:
        (tmp_path / "cache" / PLAN).write_text(plan)
    add_video(settings, "cats/c")
    assert run(settings) == 1
    assert faults(settings) == []
    assert len(read_manifest(tmp_path / "cache")) == 5


@pytest.mark.parametrize("kind", TYPES)
def test_entries_with_other_settings_than_the_header_are_encoded_again(
    kind: str, cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached(kind)
    (tmp_path / "cache" / HEADER).unlink()
    data = settings.data.model_copy(update={"image_size": 32})
    larger = settings.model_copy(update={"data": data})
    assert run(larger) == 4
    assert open_cache(larger)[1].read(0, [0], mirror=False).shape == (1, 8, 4, 4)


def test_a_shard_with_invalid_checksums_is_reported_as_damaged(
    cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached("mindrecord")
    (tmp_path / "cache" / "shard-00000.sums").write_text("{}")
    assert {kind for kind, _ in faults(settings)} == {"torn"}


@pytest.mark.parametrize("kind", TYPES)
def test_repair_removes_a_missing_video_and_encodes_no_other(
    kind: str, cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached(kind)
    shutil.rmtree(tmp_path / "root" / "cats" / "b")
    assert faults(settings) == [("stale", "cats/b")]
    assert faults(settings, repair=True) == [("stale", "cats/b")]
    assert run(settings) == 0
    assert faults(settings) == []
    if kind == "numpy":
        assert len(list((tmp_path / "cache" / "latents").iterdir())) == 3


def test_cached_videos_that_the_labels_do_not_list_are_not_stale(
    cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached("numpy")
    (tmp_path / "labels.txt").write_text("cats 0\n")
    data = settings.data.model_copy(update={"labels": tmp_path / "labels.txt"})
    assert faults(settings.model_copy(update={"data": data})) == []


def test_training_from_a_cache_needs_no_videos_in_the_root(
    cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached("numpy")
    shutil.rmtree(tmp_path / "root")
    (tmp_path / "root").mkdir()
    assert open_cache(settings)[1].labels == (0, 0, 1, 1)


def test_the_error_names_an_unreadable_manifest(cached: Callable[..., Settings], tmp_path: Path) -> None:
    settings = cached("numpy")
    manifest = tmp_path / "cache" / MANIFEST
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(LatteError) as caught:
        run(settings)
    assert str(caught.value) == f"{manifest}: found a folder, expected a file"


@pytest.mark.parametrize("kind", TYPES)
def test_with_one_video_left_workers_count_it_once_and_report_its_failure(
    kind: str, cached: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = cached(kind)
    add_video(settings, "cats/c")
    caching = cache.CacheRun(settings, workers=2, encode=encode)
    list(caching)
    assert (caching.status.saved, caching.status.failed) == (1, [])
    add_video(settings, "cats/d")
    (tmp_path / "root" / "cats" / "d" / "7.bmp").write_bytes(b"torn")
    with pytest.raises(LatteError, match="1 of 6 videos could not be cached, the first cats/d: not an image"):
        list(cache.CacheRun(settings, workers=2, encode=encode))


def test_progress_counts_each_video_once(cached: Callable[..., Settings], tmp_path: Path) -> None:
    settings = cached("numpy")
    (tmp_path / "root" / "empty.mp4").write_bytes(b"")
    add_video(settings, "cats/c")
    reports = cache.CacheRun(settings, encode=encode)
    seen = []
    with pytest.raises(LatteError, match="1 of 6 videos could not be cached"):
        seen.extend(reports)
    assert isinstance(seen[-1], cache.FramesEncoded)
    assert (seen[-1].videos, seen[-1].total_videos) == (1, 1)
