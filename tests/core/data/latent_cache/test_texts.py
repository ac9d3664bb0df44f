"""The header of a cache's texts."""

import json
from pathlib import Path

import pytest

from latte_cli.core.data.latent_cache.texts import TextHeader, begin_texts, read_text_header
from latte_cli.core.errors import LatteError

HEADER = TextHeader(
    encoder="0" * 64, kind="t5", width=4096, arithmetic="float32", dtype="float16", clean_caption=True
)


def test_cleaned_captions_are_not_added_to_a_cache_of_uncleaned_ones(tmp_path: Path) -> None:
    before = HEADER.model_dump(exclude={"clean_caption"})
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "text.json").write_text(json.dumps(before))
    found = read_text_header(tmp_path)
    assert found == HEADER.model_copy(update={"clean_caption": False})
    assert found.differences(HEADER, reading=True) == []
    with pytest.raises(LatteError) as refusal:
        begin_texts(tmp_path, HEADER, {})
    assert str(refusal.value) == (
        f"cache.dir: {tmp_path}: text.clean_caption: the captions were encoded with False, this run has"
        f" True: remove {tmp_path}/text to encode the captions again"
    )
