from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.data.latent_cache import mindrecord as shards
from latte_cli.core.data.latent_cache.manifest import Entry
from latte_cli.core.data.latent_cache.mindrecord import (
    ShardSource,
    read_rows,
    row_layout,
    row_starts,
    write_shard,
)
from latte_cli.core.data.videos.find import ClipIndex, VideoFile
from latte_cli.core.data.videos.video import VideoError

LENGTHS = {"a": 1, "b": 30, "c": 31, "d": 97, "e": 5}
ROWS = (30, 13)


def make(folder: Path) -> tuple[ShardSource, dict[str, np.ndarray]]:  # type: ignore[type-arg]
    generator = np.random.default_rng(0)
    values = {name: generator.standard_normal((n, 8, 2, 2)).astype(np.float16) for name, n in LENGTHS.items()}
    first = write_shard(folder / "shard-00000.mindrecord", list(values.items()), ROWS)
    entries = {
        name: Entry(
            name=name,
            source=name,
            size=0,
            mtime_ns=0,
            sha256="0" * 64,
            frames=len(array),
            shape=array.shape,
            dtype="float16",
            checksum="0" * 64,
            vae="",
            settings="",
            file="shard-00000.mindrecord",
            row=first[name],
        )
        for name, array in values.items()
    }
    index = ClipIndex(tuple(VideoFile(folder / name, name) for name in LENGTHS), tuple(LENGTHS.values()))
    return ShardSource(folder, index, entries, "moments", rows=ROWS, keep_bytes=9000), values


def test_frames_are_unchanged_for_any_layout_of_rows(tmp_path: Path) -> None:
    source, values = make(tmp_path)
    generator = np.random.default_rng(1)
    for number, (name, length) in enumerate(LENGTHS.items()):
        expected = [
            list(range(length)),
            [length - 1, 0, length // 2],
            *(sorted(generator.integers(0, length, 5).tolist()) for _ in range(10)),
        ]
        for indices in expected:
            found = source.read(number, indices, mirror=False)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, values[name][indices])
    assert source.kept_bytes <= 9000


def test_rows_cover_every_frame_and_each_clip_fits_in_one_row() -> None:
    for span, frame_bytes in [(1, 100), (46, 16384), (128, 32768), (5000, 2**20)]:
        length, overlap = row_layout(span, frame_bytes)
        assert length * frame_bytes <= max(shards.ROW_BYTES, 2 * frame_bytes)
        for frames in (1, 2, length - 1, length, length + 1, 3 * length + 7):
            starts = row_starts(frames, (length, overlap))
            covered = [set(range(start, min(start + length, frames))) for start in starts]
            assert set().union(*covered) == set(range(frames))
            assert all(rows for rows in covered)
            if span - 1 <= overlap:
                for begin in range(max(0, frames - span + 1)):
                    assert any({begin, begin + span - 1} <= rows for rows in covered)


def test_any_program_can_read_the_rows_with_minddataset(tmp_path: Path) -> None:
    import mindspore.dataset as ds

    _, values = make(tmp_path)
    rows = ds.MindDataset(str(tmp_path / "shard-00000.mindrecord"), shuffle=False)
    found = list(rows.create_dict_iterator(num_epochs=1, output_numpy=True))
    assert [(str(row["name"]), int(row["first"])) for row in found][:4] == [
        ("a", 0),
        ("b", 0),
        ("c", 0),
        ("c", 17),
    ]
    for row in found:
        first, count = int(row["first"]), int(row["frames"])
        expected = values[str(row["name"])][first : first + count]
        assert row["latents"].tobytes() == expected.tobytes()


def test_the_error_names_a_missing_or_truncated_shard(tmp_path: Path) -> None:
    make(tmp_path)
    shard = tmp_path / "shard-00000.mindrecord"
    with pytest.raises(VideoError, match=r"shard-00001\.mindrecord: is missing"):
        read_rows(tmp_path / "shard-00001.mindrecord", [0])
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(
        VideoError, match=r"shard-00000\.mindrecord: is torn: shard-00000\.mindrecord has the wrong length"
    ):
        read_rows(shard, [0])


def test_no_extra_files_are_left_next_to_a_shard(tmp_path: Path) -> None:
    make(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["shard-00000.mindrecord", "shard-00000.mindrecord.db", "shard-00000.sums"]
