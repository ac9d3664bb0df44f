"""Caching with a replacement of the autoencoder: the mean of each block of pixels."""

import hashlib
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import mindspore.dataset
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latte_cli.core.data.clips.batches import Sharing, batches
from latte_cli.core.data.clips.frames import FrameSource
from latte_cli.core.data.clips.part import fingerprint
from latte_cli.core.data.latent_cache import mindrecord as shards
from latte_cli.core.data.latent_cache import plan as cache_plan
from latte_cli.core.data.latent_cache import shard_sums
from latte_cli.core.data.latent_cache.job import read_job
from latte_cli.core.data.latent_cache.manifest import read_manifest
from latte_cli.core.data.latent_cache.open import open_cache
from latte_cli.core.data.latent_cache.writer import CacheWriter, Status, gather
from latte_cli.core.data.videos.find import index_clips
from latte_cli.core.errors import LatteError
from latte_cli.core.recipes import cache
from latte_cli.core.settings.schema import CacheSettings, DataSettings, Settings, VaeSettings
from latte_cli.core.storage.lock import only_run
from latte_cli.core.training.inputs import latents_of

Array = NDArray[np.float32]
CHUNK = 8
TYPES = ("numpy", "mindrecord")


def encode(frames: Array) -> Array:
    """Moments (N, 8, h, w) of frames (N, 3, H, W); always CHUNK of them, as a compiled encoder requires."""
    assert len(frames) == CHUNK
    side = frames.shape[-1] // 8
    means = frames.reshape(CHUNK, 3, side, 8, side, 8).mean((3, 5))
    return np.concatenate([means, means[:, :1] * 2, means - 1, means[:, :1] - 2], axis=1).astype(np.float32)


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., Settings]:
    """experiment(**cache settings): settings over five small videos in two folders; their root is made
    once."""
    root = tmp_path / "root"
    generator = np.random.default_rng(0)
    for number in range(5):
        folder = root / f"class{number % 2}" / f"v{number}"
        folder.mkdir(parents=True)
        for frame in range(20 + 7 * number):
            Image.fromarray(generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(
                folder / f"f_{frame}.png"
            )
    (tmp_path / "vae.ckpt").write_bytes(b"weights")

    def make(**options: Any) -> Settings:
        options = {"dir": tmp_path / "cache", "dtype": "float32"} | options
        return Settings(
            data=DataSettings(root=root, image_size=16, num_frames=4, frame_stride=2),
            vae=VaeSettings(weights=str(tmp_path / "vae.ckpt"), chunk_frames=CHUNK),
            cache=CacheSettings(**options),
        )

    return make


def run(settings: Settings, **options: Any) -> tuple[Status, str]:
    """Run to the end: the status, and the error if there was one."""
    caching = cache.CacheRun(settings, **{"encode": encode, **options})
    try:
        list(caching)
    except LatteError as error:
        return caching.status, str(error)
    return caching.status, ""


def content(folder: Path) -> dict[str, Any]:
    """Everything in a cache: the bytes of its files, and the rows of shards."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".mindrecord":
            count = sum(1 for entry in read_manifest(folder).values() if entry.file == path.name)
            assert count
            found[path.name] = shards.read_rows(path, range(_rows(path)))
        elif path.is_file() and path.suffix not in {".db", ".sums"}:
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def _rows(path: Path) -> int:
    from mindspore.mindrecord import FileReader

    reader = FileReader(str(path))
    count: int = reader.len()
    reader.close()
    return count


def clips(settings: Settings, source: Any, count: int = 12) -> list[Any]:
    stream = batches(source, data=settings.data, sharing=Sharing(2), seed=3)
    taken = list(islice(stream, count))
    stream.close()  # type: ignore[attr-defined]
    return taken


@pytest.mark.parametrize("kind", TYPES)
def test_training_from_the_cache_uses_the_same_clips_as_training_from_frames(
    kind: str, experiment: Callable[..., Settings]
) -> None:
    settings = experiment(type=kind, mirror=True)
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"random_flip": True})})
    status, error = run(settings)
    assert (status.lines(), error) == (
        "Start Video Index: 0.\nSaving Attempts: 0: save 5 videos, failed 0 videos.\n",
        "",
    )
    _, cached = open_cache(settings)
    whole = index_clips(settings.data)
    source = FrameSource(whole, settings.data)
    assert fingerprint(cached) == fingerprint(source)
    for from_cache, from_frames in zip(clips(settings, cached), clips(settings, source), strict=True):
        assert from_cache.content == "moments"
        for name in ("places", "videos", "epochs", "class_labels"):
            np.testing.assert_array_equal(getattr(from_cache, name), getattr(from_frames, name))
        expected = encode(from_frames.values.reshape(-1, 3, 16, 16)).reshape(2, 4, 8, 2, 2)
        np.testing.assert_array_equal(from_cache.values, expected)


@pytest.mark.parametrize("kind", TYPES)
def test_a_stored_sample_depends_only_on_the_name_of_the_video_and_the_frame(
    kind: str, experiment: Callable[..., Settings]
) -> None:
    settings = experiment(type=kind, store="sample")
    run(settings)
    index, cached = open_cache(settings)
    assert cached.content == "latents"
    frames = FrameSource(index_clips(settings.data), settings.data)
    indices = [26, 2, 2, 5, 6, 7, 8, 9]
    moments = encode(frames.read(3, indices, mirror=False))
    key = int.from_bytes(hashlib.sha256(index.videos[3].name.encode()).digest()[:8], "big")
    seeds = [np.random.SeedSequence([settings.seed, 11, key, i, 0]) for i in indices]
    noise = [
        np.random.Generator(np.random.Philox(seed)).standard_normal((4, 2, 2), np.float32) for seed in seeds
    ]
    means, log_variances = moments[:, :4], moments[:, 4:].astype(np.float64)
    expected = 0.18215 * (means + np.exp(log_variances / 2) * np.stack(noise))
    np.testing.assert_allclose(cached.read(3, indices, mirror=False), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", TYPES)
def test_a_second_run_encodes_nothing_and_changes_nothing(
    kind: str, experiment: Callable[..., Settings]
) -> None:
    settings = experiment(type=kind)
    run(settings)
    before = content(settings.cache.dir)  # type: ignore[arg-type]

    def never(frames: Array) -> Array:
        raise AssertionError("encoded again")

    status, error = run(settings, encode=never)
    assert (status.saved, error) == (0, "")
    assert content(settings.cache.dir) == before  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("calls", [0, 3, 9, 20])
def test_an_interrupted_and_continued_run_equals_an_uninterrupted_one(
    kind: str,
    calls: int,
    experiment: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_plan, "SHARD_BYTES", 60 * 8 * 4 * 4)  # of 60 frames: three shards
    whole, broken = experiment(type=kind), experiment(type=kind, dir=tmp_path / "broken")
    run(whole)
    count = 0

    def failing(frames: Array) -> Array:
        nonlocal count
        count += 1
        if count > calls:
            raise KeyboardInterrupt
        return encode(frames)

    caching = cache.CacheRun(broken, encode=failing)
    with pytest.raises(KeyboardInterrupt):
        list(caching)
    status = caching.status
    assert f"save {status.saved} videos" in status.lines()
    second, error = run(broken)
    assert (status.saved + second.saved, error) == (5, "")
    assert content(broken.cache.dir) == content(whole.cache.dir)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_workers_that_share_the_videos_write_the_same_files(
    kind: str, experiment: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_plan, "SHARD_BYTES", 60 * 8 * 4 * 4)
    one, shared = experiment(type=kind), experiment(type=kind, dir=tmp_path / "shared")
    run(one)
    caching = cache.CacheRun(shared)
    with caching.prepared() as preparing:
        list(preparing)
        job = read_job(shared.cache.dir)
        for rank in (1, 0):
            list(cache.encode_share(CacheWriter(shared, job, caching.status, rank=rank, world=2), encode))
    assert content(shared.cache.dir) == content(one.cache.dir)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", TYPES)
def test_failed_videos_are_listed_and_do_not_affect_others(
    kind: str, experiment: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = experiment(type=kind)
    root = settings.data.root
    assert root is not None
    (root / "class0" / "empty.mp4").write_bytes(b"")
    (root / "class1" / "v1" / "f_19.png").write_bytes(b"torn")
    status, error = run(settings)
    assert status.lines() == (
        "Start Video Index: 0.\nSaving Attempts: 0: save 4 videos, failed 2 videos.\n"
        "failed: class0/empty.mp4: is empty\nfailed: class1/v1: not an image\n"
    )
    assert (
        error
        == f"{settings.cache.dir}: 2 of 6 videos could not be cached, the first class0/empty.mp4: is empty"
    )
    assert list(read_manifest(settings.cache.dir)) == ["class0/v0", "class0/v2", "class0/v4", "class1/v3"]  # type: ignore[arg-type]
    Image.new("RGB", (24, 20)).save(root / "class1" / "v1" / "f_19.png")
    second, _ = run(settings)
    assert (second.saved, len(second.failed)) == (1, 1)
    assert [checked.fault.name for checked in cache.verify(settings) if checked.fault] == ["class0/empty.mp4"]


@pytest.mark.parametrize("kind", TYPES)
def test_a_video_that_fails_again_leaves_no_trace(
    kind: str, experiment: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_plan, "SHARD_BYTES", 60 * 8 * 4 * 4)
    settings = experiment(type=kind)
    assert settings.data.root is not None
    (settings.data.root / "class0" / "v2" / "f_19.png").write_bytes(b"torn")
    run(settings)
    before = content(settings.cache.dir)  # type: ignore[arg-type]
    run(settings)
    assert content(settings.cache.dir) == before  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", TYPES)
def test_a_changed_video_is_encoded_again_but_not_one_with_only_a_new_time(
    kind: str, experiment: Callable[..., Settings]
) -> None:
    settings = experiment(type=kind)
    run(settings)
    root = settings.data.root
    assert root is not None
    touched, changed = root / "class0" / "v0" / "f_3.png", root / "class1" / "v3" / "f_3.png"
    touched.write_bytes(touched.read_bytes())
    Image.new("RGB", (24, 20), (9, 9, 9)).save(changed)
    faults = [(checked.fault.kind, checked.fault.name) for checked in cache.verify(settings) if checked.fault]
    assert faults == [("stale", "class1/v3")]
    status, _ = run(settings)
    assert status.saved == 1
    _, cached = open_cache(settings)
    frames = FrameSource(index_clips(settings.data), settings.data)
    for video in range(5):
        expected = encode(frames.read(video, list(range(CHUNK)), mirror=False))
        np.testing.assert_array_equal(cached.read(video, list(range(CHUNK)), mirror=False), expected)
    assert not [checked for checked in cache.verify(settings) if checked.fault]


def test_resume_starts_at_the_given_video_and_overwrites_nothing(experiment: Callable[..., Settings]) -> None:
    settings = experiment()
    status, _ = run(settings, resume=3)
    assert status.lines() == "Start Video Index: 3.\nSaving Attempts: 0: save 2 videos, failed 0 videos.\n"
    assert list(read_manifest(settings.cache.dir)) == ["class1/v1", "class1/v3"]  # type: ignore[arg-type]
    status, _ = run(settings, resume=1)
    assert status.saved == 2
    assert run(settings, resume=5)[1] == "--resume 5: expected auto, or the index of a video: 0 to 4"


def test_overwrite_replaces_a_cache_with_other_settings(experiment: Callable[..., Settings]) -> None:
    run(experiment(type="mindrecord"))
    other = experiment(dtype="float16")
    _, error = run(other)
    assert error == (
        f"cache.dir: {other.cache.dir}: cache.type: the cache was made with mindrecord, this run has numpy; "
        "cache.dtype: the cache was made with float32, this run has float16: "
        "use another --out, or --overwrite"
    )
    keep = other.cache.dir / "notes.txt"  # type: ignore[operator]
    keep.write_text("mine")
    status, error = run(other, overwrite=True)
    assert (status.saved, error) == (5, "")
    assert keep.read_text() == "mine"
    assert not list(other.cache.dir.glob("shard*"))  # type: ignore[union-attr]


def test_training_rejects_a_cache_of_another_autoencoder_or_size(
    experiment: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = experiment()
    run(settings)
    (tmp_path / "vae.ckpt").write_bytes(b"other weights")
    other = settings.model_copy(
        update={"data": settings.data.model_copy(update={"image_size": 32, "random_flip": True})}
    )
    with pytest.raises(LatteError) as caught:
        open_cache(other)
    assert "vae.weights: the cache was made with " in str(caught.value)
    assert "data.image_size: the cache was made with 16, this run has 32" in str(caught.value)
    (tmp_path / "vae.ckpt").write_bytes(b"weights")
    flipped = settings.model_copy(update={"data": settings.data.model_copy(update={"random_flip": True})})
    with pytest.raises(LatteError, match=r"data\.random_flip: the cache .* contains no mirrored copies"):
        open_cache(flipped)


def test_a_changed_class_requires_no_new_encoding(
    experiment: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = experiment()
    run(settings)
    assert open_cache(settings)[1].labels == (0, 0, 0, 1, 1)
    (tmp_path / "list.txt").write_text("class0/v0 7\nclass1 3\n")
    listed = settings.model_copy(
        update={"data": settings.data.model_copy(update={"labels": tmp_path / "list.txt"})}
    )
    index, source = open_cache(listed)
    assert [video.name for video in index.videos] == ["class0/v0", "class1/v1", "class1/v3"]
    assert source.labels == (7, 3, 3)
    assert run(listed)[0].saved == 0


@pytest.mark.parametrize("kind", TYPES)
def test_verify_names_missing_and_damaged_entries_and_repair_fixes_them(
    kind: str, experiment: Callable[..., Settings]
) -> None:
    settings = experiment(type=kind)
    run(settings)
    folder = settings.cache.dir
    assert folder is not None
    before = content(folder)
    if kind == "numpy":
        first, second, third = sorted((folder / "latents").iterdir())[:3]
        first.unlink()
        second.write_bytes(second.read_bytes()[:-1])
        torn = bytearray(third.read_bytes())
        torn[200] ^= 1
        third.write_bytes(torn)
        expected = [("missing", "class0/v0"), ("torn", "class0/v2"), ("torn", "class1/v1")]
    else:
        shard = folder / "shard-00000.mindrecord"
        torn = bytearray(shard.read_bytes())
        torn[_place_of_values(torn, before)] ^= 1
        shard.write_bytes(torn)
        expected = [("torn", name) for name in read_manifest(folder)]
    checked = list(cache.verify(settings))
    assert [(one.fault.kind, one.fault.name) for one in checked if one.fault] == expected
    assert [one.done for one in checked] == [1, 2, 3, 4, 5]
    list(cache.verify(settings, repair=True))
    run(settings)
    assert not [one for one in cache.verify(settings) if one.fault]
    assert content(folder) == before


def test_verify_compares_the_autoencoder_if_available(
    experiment: Callable[..., Settings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = experiment()
    run(settings)
    (tmp_path / "vae.ckpt").write_bytes(b"other weights")
    with pytest.raises(LatteError, match=r"all entries are stale: vae\.weights: the cache was made with "):
        list(cache.verify(settings))
    (tmp_path / "vae.ckpt").unlink()
    assert [checked.fault for checked in cache.verify(settings)] == [None] * 5
    weights = tmp_path / "vae.ckpt"
    assert caplog.messages == [
        f"vae.weights: {weights}: no such file; not compared with the cache's autoencoder"
    ]
    unset = settings.model_copy(update={"vae": VaeSettings()})
    assert [checked.fault for checked in cache.verify(unset)] == [None] * 5
    assert len(caplog.messages) == 1


def test_verify_opens_each_shard_once(
    experiment: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_plan, "SHARD_BYTES", 90 * 8 * 4 * 4)  # of 90 frames: three shards
    settings = experiment(type="mindrecord")
    run(settings)
    opened: list[str] = []
    summed: list[str] = []
    dataset, summing = mindspore.dataset.MindDataset, shard_sums.size_and_digest

    def opening(path: str, *others: Any, **options: Any) -> Any:
        opened.append(Path(path).name)
        return dataset(path, *others, **options)

    def summing_up(path: Path) -> tuple[int, str]:
        summed.append(path.name)
        return summing(path)

    monkeypatch.setattr(mindspore.dataset, "MindDataset", opening)
    monkeypatch.setattr(shard_sums, "size_and_digest", summing_up)
    assert [checked.fault for checked in cache.verify(settings)] == [None] * 5
    names = [f"shard-{number:05d}.mindrecord" for number in range(3)]
    assert opened == names
    assert sorted(summed) == sorted([*names, *(f"{name}.db" for name in names)])


@pytest.mark.parametrize(
    "damage",
    [{"frames": 21}, {"shape": [21, 8, 2, 2]}, {"row": 1}, {"checksum": "0" * 64}, {"dtype": "float16"}],
)
def test_verify_finds_an_entry_that_contradicts_its_shard(
    damage: dict[str, Any], experiment: Callable[..., Settings]
) -> None:
    settings = experiment(type="mindrecord")
    run(settings)
    manifest = settings.cache.dir / "manifest.jsonl"  # type: ignore[operator]
    first, *others = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join([json.dumps(json.loads(first) | damage) + "\n", *others]))
    found = [checked.fault and checked.fault.kind for checked in cache.verify(settings)]
    assert found == ["torn", None, None, None, None]


def _place_of_values(shard: bytearray, before: dict[str, Any]) -> int:
    """The position of the first row's latents in a shard's file."""
    return shard.index(before["shard-00000.mindrecord"][0][2][:64])


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """Limit files to `size` bytes, so that writing fails in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("kind", "size"), [("numpy", 5000), ("numpy", 1200), ("mindrecord", 5000), ("mindrecord", 100_000)]
)
def test_a_full_disk_stops_the_run_and_keeps_complete_entries(
    kind: str, size: int, experiment: Callable[..., Settings], tmp_path: Path
) -> None:
    whole, full = experiment(type=kind), experiment(type=kind, dir=tmp_path / "full")
    run(whole)
    with files_at_most(size):
        _, error = run(full)
    assert "cannot be written: " in error
    assert error.endswith("; finished entries are kept: run the same command again to continue")
    assert not list((tmp_path / "full").rglob("*partial*"))
    assert run(full)[1] == ""
    assert content(tmp_path / "full") == content(whole.cache.dir)  # type: ignore[arg-type]


def test_a_truncated_last_line_of_the_manifest_loses_only_that_entry(
    experiment: Callable[..., Settings],
) -> None:
    settings = experiment()
    run(settings)
    manifest = settings.cache.dir / "manifest.jsonl"  # type: ignore[operator]
    before = manifest.read_bytes()
    manifest.write_bytes(before[:-40])
    assert len(read_manifest(settings.cache.dir)) == 4  # type: ignore[arg-type]
    assert run(settings)[0].saved == 1
    assert manifest.read_bytes() == before


def test_a_second_run_on_the_same_folder_at_the_same_time_is_rejected(
    experiment: Callable[..., Settings],
) -> None:
    settings = experiment()
    with only_run(settings.cache.dir, "latte cache"):  # type: ignore[arg-type]
        assert run(settings)[1] == f"{settings.cache.dir}: another latte cache is running in this folder"
    assert run(settings)[1] == ""
    assert not (settings.cache.dir / "lock").exists()  # type: ignore[operator]


def test_the_manifest_records_the_source_of_each_entry(
    experiment: Callable[..., Settings], tmp_path: Path
) -> None:
    from hashlib import sha256

    settings = experiment(dtype="float16")
    run(settings)
    line = json.loads((tmp_path / "cache" / "manifest.jsonl").read_text().splitlines()[0])
    images = sorted((tmp_path / "root" / "class0" / "v0").iterdir())
    assert line["name"] == "class0/v0"
    assert line["source"] == str(tmp_path / "root" / "class0" / "v0")
    assert line["size"] == sum(image.stat().st_size for image in images)
    assert line["mtime_ns"] == max(image.stat().st_mtime_ns for image in images)
    assert (line["frames"], line["shape"], line["dtype"]) == (20, [20, 8, 2, 2], "float16")
    assert line["vae"] == sha256(b"weights").hexdigest()
    values = np.load(tmp_path / "cache" / line["file"])
    assert values.dtype == np.float16
    assert line["checksum"] == sha256(values.tobytes()).hexdigest()


def test_per_frame_files_of_mindone_can_be_read(experiment: Callable[..., Settings], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    latents = generator.standard_normal((12, 4, 2, 2)).astype(np.float32)
    for name in ("b", "a"):
        (tmp_path / "mindone" / name).mkdir(parents=True)
        for frame, values in enumerate(latents):
            np.save(tmp_path / "mindone" / name / f"video_latent-clip_{frame}.npy", values)
    settings = experiment(dir=tmp_path / "mindone")
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"root": None})})
    index, source = open_cache(settings)
    assert [video.name for video in index.videos] == ["a", "b"]
    assert source.content == "latents"
    np.testing.assert_array_equal(source.read(0, [11, 9, 10], mirror=False), latents[[11, 9, 10]])
    other = settings.model_copy(update={"data": settings.data.model_copy(update={"image_size": 32})})
    with pytest.raises(LatteError, match=r"contains no latents of shape \(4, 4, 4\), as required by"):
        open_cache(other)


def test_the_error_for_a_missing_cache_says_what_to_do(
    experiment: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = experiment()
    with pytest.raises(LatteError, match=r"cache\.dir: .*/cache: no such folder: run latte cache first"):
        open_cache(settings)
    (tmp_path / "cache").mkdir()
    with pytest.raises(LatteError, match=r"cache\.dir: .*/cache: contains no cache: run latte cache first"):
        open_cache(settings)


def test_results_of_workers_are_merged(experiment: Callable[..., Settings]) -> None:
    settings = experiment()
    folder, root = settings.cache.dir, settings.data.root
    assert folder is not None
    assert root is not None
    (root / "class1" / "v1" / "f_19.png").write_bytes(b"torn")
    caching = cache.CacheRun(settings)
    with caching.prepared() as preparing:
        list(preparing)
        job = read_job(folder)
        for rank in (0, 1):
            list(cache.encode_share(CacheWriter(settings, job, Status(), rank=rank, world=2), encode))
        gather(job, caching.status)
    status = caching.status
    assert (status.saved, [video.name for video in status.failed]) == (4, ["class1/v1"])
    assert sorted(path.name for path in folder.iterdir()) == ["cache.json", "latents", "manifest.jsonl"]


@pytest.mark.parametrize("kind", TYPES)
def test_stored_samples_equal_the_latents_of_training_from_frames(
    kind: str, experiment: Callable[..., Settings]
) -> None:
    settings = experiment(type=kind, store="sample")
    run(settings)
    frames = FrameSource(index_clips(settings.data), settings.data)
    pairs = zip(clips(settings, open_cache(settings)[1]), clips(settings, frames), strict=True)
    for from_cache, from_frames in pairs:
        drawn = [
            latents_of(
                batch, encode, scaling_factor=settings.vae.scaling_factor, seed=settings.seed, stored=True
            )
            for batch in (from_cache, from_frames)
        ]
        np.testing.assert_array_equal(*drawn)


def test_a_run_that_saves_nothing_leaves_no_folder(
    experiment: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = experiment()

    def fail(_frames: Any) -> Any:
        raise LatteError("no autoencoder here")

    assert "no autoencoder here" in run(settings, encode=fail)[1]
    assert not settings.cache.dir.exists()  # type: ignore[union-attr]
