"""Properties for all inputs: clips, crops, respacing, journals, names, prompts, settings."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from latte_cli.core.data.captions.prompts import read_prompts
from latte_cli.core.data.videos.transforms import (
    clip_indices,
    last_begin,
    needed_frames,
    square_taps,
    to_pixels,
)
from latte_cli.core.diffusion.schedule import space_timesteps
from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.journal import Journal
from latte_cli.core.storage.json_files import Model
from latte_cli.core.storage.names import inside

SPACINGS = st.sampled_from(["stride", "linspace"])
TRANSFORMS = st.sampled_from(["crop_resize", "resize_crop"])
SIDES = st.integers(1, 700)
MEMORY = Path("/dev/shm")  # in memory, since a journal flushes to disk
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [f"{name}.{key}" for name in ("data", "model", "train", "sample", "cache") for key in
     Settings.model_fields[name].annotation.model_fields]
)  # fmt: skip


@given(st.integers(1, 400), st.integers(1, 40), st.integers(1, 9), SPACINGS, st.data())
def test_a_clip_has_its_frames_in_order_and_within_the_video(
    total: int, num_frames: int, stride: int, spacing: Any, data: st.DataObject
) -> None:
    assume(total >= needed_frames(num_frames, stride, spacing))
    begin = data.draw(st.integers(0, last_begin(total, num_frames, stride)))
    indices = clip_indices(begin, total, num_frames=num_frames, frame_stride=stride, spacing=spacing)
    assert len(indices) == num_frames
    assert indices[0] == begin
    assert indices == sorted(indices)
    assert indices[-1] < total
    if spacing == "stride":
        assert set(np.diff(indices)) <= {stride}


@given(SIDES, SIDES, st.integers(8, 256), TRANSFORMS)
def test_a_crop_takes_neighbouring_pixels_of_the_frame(h: int, w: int, size: int, transform: Any) -> None:
    for side, taps in zip((h, w), square_taps(h, w, size, transform), strict=True):
        assert len(taps.low) == size
        assert taps.low.min() >= 0
        assert taps.high.max() < side
        assert set(taps.high - taps.low) <= {0, 1}
        assert taps.weight.min() >= 0
        assert taps.weight.max() <= 1


@given(st.integers(2, 40), st.integers(2, 40), TRANSFORMS, st.integers(0, 2**32 - 1))
def test_mirroring_a_mirrored_frame_gives_the_frame(h: int, w: int, transform: Any, seed: int) -> None:
    frames = np.random.default_rng(seed).integers(0, 256, (1, h, w, 3), np.uint8)
    plain = to_pixels(frames, 16, transform, mirror=False)
    np.testing.assert_array_equal(to_pixels(frames[:, :, ::-1], 16, transform, mirror=True), plain)
    assert np.abs(plain).max() <= 1 + 1e-6


@given(st.integers(1, 1000), st.lists(st.integers(0, 200), min_size=1, max_size=5))
def test_respacing_keeps_the_requested_number_of_timesteps(num_timesteps: int, counts: list[int]) -> None:
    respacing = ",".join(map(str, counts))
    sections = divmod(num_timesteps, len(counts))
    if any(count > sections[0] + (place < sections[1]) for place, count in enumerate(counts)):
        with pytest.raises(LatteError, match="expected at most"):
            space_timesteps(num_timesteps, respacing)
        return
    kept = space_timesteps(num_timesteps, respacing)
    assert len(kept) == sum(counts)
    assert (np.diff(kept) > 0).all()
    assert not len(kept) or 0 <= kept[0] <= kept[-1] < num_timesteps
    if counts[0] > 1:
        assert kept[0] == 0
    if counts[-1] > 1:
        assert kept[-1] == num_timesteps - 1


@given(st.integers(2, 1000), st.integers(1, 1000))
def test_ddim_respacing_has_one_stride_from_the_first_timestep(num_timesteps: int, count: int) -> None:
    try:
        kept = space_timesteps(num_timesteps, f"ddim{count}")
    except LatteError:
        return
    assert len(kept) == count
    assert kept[0] == 0
    assert len(set(np.diff(kept))) <= 1


class _Record(Model):
    name: str
    number: int


RECORDS = st.lists(st.builds(_Record, name=st.text(max_size=9), number=st.integers(-9, 9)), max_size=5)


@given(RECORDS, RECORDS, st.data())
def test_a_journal_truncated_anywhere_keeps_its_records_and_can_be_extended(
    first: list[_Record], more: list[_Record], data: st.DataObject
) -> None:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        journal = Journal(Path(folder, "journal.jsonl"), _Record)
        journal.append(first)
        content = journal.path.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        journal.path.write_bytes(content[:cut])
        journal.repair()
        kept = list(journal.read())
        complete = content[:cut].count(b"\n")
        assert kept == first[: len(kept)]
        assert len(kept) - complete in (0, 1), "only the last line can lack its line break"
        journal.append(more)
        assert list(journal.read()) == kept + more


@given(st.text(max_size=30) | st.lists(st.sampled_from(["..", ".", "a", "/", "\0", "~"])).map("/".join))
def test_a_name_from_a_file_cannot_leave_its_folder(name: str) -> None:
    try:
        inside(name)
    except ValueError:
        return
    assert Path("/folder", name).is_relative_to("/folder")
    assert ".." not in Path(name).parts


@given(st.text(max_size=200))
def test_any_text_gives_prompts_or_one_error(text: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "prompts.txt")
        path.write_bytes(text.encode("utf-8", "replace"))
        with suppress(LatteError):
            assert read_prompts(path)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_values_give_settings_or_errors_that_name_the_file(values: dict[str, Any]) -> None:
    sections: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = value
    with TemporaryDirectory() as folder:
        path = Path(folder, "x.yaml")
        path.write_text(yaml.safe_dump(sections, allow_unicode=False), "utf-8")
        fault = ""
        try:
            load_settings(path)
        except LatteError as error:
            fault = str(error)
        assert not fault or fault.startswith(str(path))
