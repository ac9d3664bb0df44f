"""Captions are cleaned as diffusers' LattePipeline cleans them (tests/golden/t2v/captions.json)."""

import json
import warnings
from pathlib import Path

import pytest

from latte_cli.core.models.text.cleaning import clean_caption
from latte_cli.core.models.text.folder import find_text_encoder
from latte_cli.core.models.text.tokens import Tokenizer
from tests.core.models.text.small_clip import save_clip

GOLDEN = Path(__file__).parents[3] / "golden" / "t2v"
ROWS = json.loads((GOLDEN / "captions.json").read_text())


def test_unusual_prompts_are_cleaned_as_in_the_pipeline() -> None:
    assert len(ROWS) == 500
    assert [clean_caption(row["prompt"]) for row in ROWS] == [row["cleaned"] for row in ROWS]


@pytest.mark.slow
def test_unusual_prompts_get_the_token_ids_of_the_pipeline() -> None:
    tokenizer = Tokenizer(find_text_encoder(GOLDEN / "pipeline"))
    for row in ROWS:
        tokens = tokenizer(row["prompt"])
        assert tokens.ids[: tokens.number].tolist() == row["ids"], row["prompt"]
        assert not tokens.ids[tokens.number :].any()


def test_cleaning_can_be_turned_off() -> None:
    tokenizer = Tokenizer(find_text_encoder(GOLDEN / "pipeline"), clean_caption=False)
    assert tokenizer.clean(" See example.com/A ") == "see example.com/a"


def test_clip_does_not_clean_texts(tmp_path: Path) -> None:
    tokenizer = Tokenizer(find_text_encoder(save_clip(tmp_path, width=16, heads=2, layers=1)))
    assert tokenizer.clean(" See example.com ") == " See example.com "


@pytest.mark.parametrize("text", ["sky.html", "https://example.com", "/etc/hosts"])
def test_a_text_like_a_path_or_an_address_gives_no_warning(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean_caption(text)
