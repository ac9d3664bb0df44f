"""States of captions in a cache: each is stored once, completely, and for the current encoder."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latte_cli.core.data.latent_cache.texts import (
    TEXTS,
    StoredTexts,
    captions_of,
    read_text_header,
    read_texts,
)
from latte_cli.core.errors import LatteError
from latte_cli.core.models.conditions.caching import cached_header
from latte_cli.core.models.text.encoder import TextEncoder, condition_of, encoder_digest
from latte_cli.core.models.text.folder import find_text_encoder
from latte_cli.core.recipes.cache import CacheRun, verify
from latte_cli.core.settings.schema import Settings

PIPELINE = Path(__file__).parents[2] / "golden" / "t2v" / "pipeline"
CAPTIONS = "video,caption\na,a red cat\na,the sea\nb,the sea\n"


def encode(frames: np.ndarray) -> np.ndarray:
    return np.zeros((len(frames), 8, 2, 2), np.float32)


def settings_in(folder: Path, **sections: Any) -> Settings:
    values: dict[str, Any] = {
        "device": "cpu",
        "data": {
            "root": str(folder / "videos"),
            "image_size": 16,
            "num_frames": 2,
            "frame_stride": 1,
            "captions": str(folder / "captions.csv"),
        },
        "vae": {"weights": "demo"},
        "text": {"encoder": str(PIPELINE)},
        "model": {"architecture": "latte-t2v", "condition": "text", "preset": "Latte-1"},
        "cache": {"dir": str(folder / "cache")},
    }
    return Settings.model_validate(values | sections)


def fill(settings: Settings) -> None:
    list(CacheRun(settings, encode=encode))


def faults(settings: Settings) -> list[tuple[str, str]]:
    return [(found.kind, found.name) for checked in verify(settings) if (found := checked.fault) is not None]


def texts_in(folder: Path) -> Path:
    return folder / "cache" / TEXTS


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two videos and their captions."""
    for name in "ab":
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (16, 16), (number * 99, 9, 9)).save(tmp_path / "videos" / name / f"{number}.png")
    (tmp_path / "captions.csv").write_text(CAPTIONS)
    return tmp_path


@pytest.mark.slow
def test_each_caption_and_the_empty_one_are_stored_once_without_padding(data: Path) -> None:
    settings = settings_in(data)
    fill(settings)
    folder = find_text_encoder(PIPELINE)
    encoder, entries = TextEncoder(folder), read_texts(data / "cache")
    assert set(entries) == {"", "a red cat", "the sea"}
    header = cached_header(settings)
    assert header is not None
    stored = StoredTexts(data / "cache", header, list(entries))
    for text, entry in entries.items():
        expected = encoder.encode(text)
        assert (entry.tokens, entry.shape) == (expected.tokens, (expected.tokens, folder.width))
        assert (entry.dtype, entry.encoder) == ("float16", encoder_digest(folder))
        expected_states = condition_of(expected, folder)
        np.testing.assert_array_equal(stored(text), expected_states.astype(np.float16))
    assert faults(settings) == []


def test_a_changed_caption_is_rejected_by_training_and_encoded_by_the_next_run(data: Path) -> None:
    settings = settings_in(data)
    fill(settings)
    before = {path: path.stat().st_mtime_ns for path in (data / "cache").rglob("*.npy")}
    (data / "captions.csv").write_text(CAPTIONS.replace("red", "blue"))
    header = read_text_header(data / "cache")
    assert header is not None
    with pytest.raises(LatteError) as refusal:
        StoredTexts(data / "cache", header, ["", "a blue cat", "the sea"])
    count = "1 of 3 captions, the first 'a blue cat'"
    assert str(refusal.value) == (
        f"cache.dir: {data}/cache: contains no states of {count}: run latte cache again"
    )
    assert [kind for kind, _ in faults(settings)] == ["missing"]
    fill(settings)
    after = {path: path.stat().st_mtime_ns for path in (data / "cache").rglob("*.npy")}
    assert len(after.keys() - before.keys()) == 1
    assert all(after[path] == time for path, time in before.items())
    assert "a blue cat" in read_texts(data / "cache")


def test_the_next_run_completes_a_killed_one(data: Path) -> None:
    settings = settings_in(data)
    fill(settings)
    expected = {path.name: path.read_bytes() for path in texts_in(data).glob("*.npy")}
    entries = read_texts(data / "cache")
    manifest = texts_in(data) / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-20])  # the last line is truncated
    os.truncate(texts_in(data) / entries["a red cat"].file, 140)
    (texts_in(data) / entries[""].file).unlink()
    (texts_in(data) / ".0123.99.partial.npy").write_bytes(b"half")
    assert sorted(kind for kind, _ in faults(settings)) == ["missing", "missing", "torn"]
    fill(settings)
    assert faults(settings) == []
    assert {
        path.name: path.read_bytes() for path in texts_in(data).iterdir() if path.suffix == ".npy"
    } == expected


def test_a_changed_byte_is_detected_and_repaired(data: Path) -> None:
    settings = settings_in(data)
    fill(settings)
    path = texts_in(data) / read_texts(data / "cache")["the sea"].file
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    ((kind, name),) = faults(settings)
    assert kind == "torn"
    assert name.startswith("caption 'the sea' (")
    list(verify(settings, repair=True))
    fill(settings)
    assert path.read_bytes() == whole


def test_the_error_for_states_of_another_encoder_names_the_difference(data: Path) -> None:
    fill(settings_in(data))
    shutil.copytree(PIPELINE, data / "other")
    config = data / "other" / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dropout_rate": 0.5}))
    settings = settings_in(data, text={"encoder": str(data / "other"), "dtype": "float16"})
    first, second = (encoder_digest(find_text_encoder(path))[:12] for path in (PIPELINE, data / "other"))
    difference = (
        f"cache.dir: {data}/cache: text.encoder: the captions were encoded with {first}, this run has"
        f" {second}; text.dtype: the captions were encoded with float32, this run has float16"
    )
    with pytest.raises(LatteError) as refusal:
        cached_header(settings)
    assert str(refusal.value) == difference
    with pytest.raises(LatteError) as refusal:
        fill(settings)
    hint = f"remove {data}/cache/text to encode the captions again"
    assert str(refusal.value) == f"{difference}: {hint}"


def test_a_cache_contains_the_captions_of_each_video(data: Path) -> None:
    fill(settings_in(data))
    moved = settings_in(data, data={"image_size": 16}, text={})
    assert captions_of(moved, ["a", "b", "c"]) == {"a": ("a red cat", "the sea"), "b": ("the sea",)}
    assert cached_header(moved) == read_text_header(data / "cache")


def test_a_cache_is_read_without_its_encoder_for_any_initial_weights(data: Path) -> None:
    fill(settings_in(data))
    (data / "weights.safetensors").touch()
    for absent in (
        {"text": {}, "train": {"init_from": str(data / "weights.safetensors")}},
        {"text": {"encoder": str(data / "elsewhere")}},
    ):
        assert cached_header(settings_in(data, **absent)) == read_text_header(data / "cache")


def test_states_of_an_encoder_that_does_not_fit_the_model_are_rejected(data: Path) -> None:
    fill(settings_in(data))
    other = settings_in(data, text={}, model={"condition": "text", "preset": "Latte-S/2"})
    with pytest.raises(LatteError) as refusal:
        cached_header(other)
    assert str(refusal.value) == (
        f"cache.dir: {data}/cache: found captions' states of a t5 encoder of width 16, expected a clip"
        " of width 768, for model.architecture: latte"
    )


def test_an_overwritten_cache_has_no_old_captions(data: Path) -> None:
    fill(settings_in(data))
    (data / "captions.csv").write_text("video,caption\na,new\nb,new\n")
    list(CacheRun(settings_in(data), encode=encode, overwrite=True))
    assert set(read_texts(data / "cache")) == {"", "new"}
