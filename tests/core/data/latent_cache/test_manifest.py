"""Valid headers and entries of a cache, and which settings require a new cache."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from latte_cli.core.data.latent_cache.manifest import (
    HEADER,
    Entry,
    Header,
    append_entries,
    read_header,
    read_manifest,
    repair_manifest,
    unchanged,
    write_header,
    write_manifest,
)
from latte_cli.core.data.videos.find import VideoFile
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings

DIGEST = "0" * 64
HEADER_OF = Header.of(Settings(), vae="a" * 64)


def entry(name: str, **changes: Any) -> Entry:
    values: dict[str, Any] = {
        "name": name, "source": name, "size": 9, "mtime_ns": 1, "sha256": DIGEST, "frames": 5,
        "shape": (5, 8, 32, 32), "dtype": "float16", "checksum": DIGEST, "vae": "v", "settings": "s",
        "file": f"latents/{name}.npy",
    }  # fmt: skip
    return Entry.model_validate(values | changes)


def test_the_header_determines_shape_and_size_of_a_stored_frame() -> None:
    assert HEADER_OF.frame_shape() == (8, 32, 32)
    assert HEADER_OF.frame_bytes() == 2 * 8 * 32 * 32
    sampled = HEADER_OF.model_copy(update={"store": "sample", "dtype": "float32", "mirror": True})
    assert sampled.frame_shape() == (2, 4, 32, 32)
    assert sampled.frame_bytes() == 4 * 2 * 4 * 32 * 32


@pytest.mark.parametrize(
    ("changes", "setting", "reading"),
    [
        ({"vae": "b" * 64}, "vae.weights", True),
        ({"image_size": 128}, "data.image_size", True),
        ({"transform": "resize_crop"}, "data.transform", True),
        ({"type": "mindrecord"}, "cache.type", False),
        ({"store": "sample"}, "cache.store", False),
        ({"dtype": "float32"}, "cache.dtype", False),
        ({"mirror": True}, "cache.mirror", False),
    ],
)
def test_the_error_names_settings_that_differ_from_those_of_the_cache(
    changes: dict[str, Any], setting: str, reading: bool
) -> None:
    other = HEADER_OF.model_copy(update=changes)
    assert [text.partition(":")[0] for text in other.differences(HEADER_OF, reading=False)] == [setting]
    assert bool(other.differences(HEADER_OF, reading=True)) == reading
    assert HEADER_OF.differences(HEADER_OF, reading=False) == []


def test_stored_samples_depend_on_the_seed_and_moments_do_not() -> None:
    sampled = HEADER_OF.model_copy(update={"store": "sample", "seed": 1, "scaling_factor": 0.18215})
    reseeded = sampled.model_copy(update={"seed": 2})
    assert reseeded.differences(sampled, reading=False) == ["seed: the cache was made with 2, this run has 1"]
    assert reseeded.differences(sampled, reading=True) == []
    assert HEADER_OF.differences(HEADER_OF.model_copy(update={"seed": 2}), reading=False) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"frames": 4}, "shape: found (5, 8, 32, 32), expected (4, 8, 32, 32)"),
        ({"dtype": "float32"}, "dtype: found float32, expected float16"),
        (
            {"file": "shard-0.mindrecord", "row": 0},
            "file: found shard-0.mindrecord, expected a file of cache type numpy",
        ),
    ],
)
def test_an_entry_that_contradicts_the_header_is_invalid(changes: dict[str, Any], fault: str | None) -> None:
    assert entry("a", **changes).fault(HEADER_OF) == fault


@pytest.mark.parametrize("changes", [{"row": 3}, {"file": "shard-0.mindrecord"}, {"file": "../x.npy"}])
def test_an_entry_with_an_invalid_row_or_file_is_rejected(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"row|inside|\.\."):
        entry("a", **changes)


def test_entries_of_all_workers_are_read_and_the_last_of_a_video_counts(tmp_path: Path) -> None:
    write_manifest(tmp_path, [entry("b10"), entry("b2", frames=1, shape=(1, 8, 32, 32))])
    append_entries(tmp_path, [entry("b2"), entry("a")], rank=1, world=2)
    assert list(read_manifest(tmp_path)) == ["a", "b2", "b10"]
    assert read_manifest(tmp_path)["b2"].frames == 5
    repair_manifest(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.jsonl"]
    assert list(read_manifest(tmp_path)) == ["a", "b2", "b10"]


def test_a_header_is_read_back_and_one_with_another_cache_type_is_rejected(tmp_path: Path) -> None:
    assert read_header(tmp_path) is None
    write_header(tmp_path, HEADER_OF)
    assert read_header(tmp_path) == HEADER_OF
    (tmp_path / HEADER).write_text(json.dumps(HEADER_OF.model_dump() | {"type": "mindrecord"}))
    with pytest.raises(LatteError, match=r"cache\.json: rows: found"):
        read_header(tmp_path)


def test_a_video_is_unchanged_if_size_and_time_or_its_content_are_equal(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"frames")
    video = VideoFile(path, "a.mp4")
    of_now = {"size": 6, "mtime_ns": path.stat().st_mtime_ns}
    content = sha256(b"frames").hexdigest()
    assert unchanged(entry("a", **of_now), video)
    assert unchanged(entry("a", size=6, mtime_ns=1, sha256=content), video)  # only its time changed
    assert not unchanged(entry("a", size=6, mtime_ns=1), video)
    assert not unchanged(entry("a", size=7, mtime_ns=1, sha256=content), video)
    path.unlink()
    assert not unchanged(entry("a", **of_now), video)
