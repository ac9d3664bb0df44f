"""Which settings a run may change when it is resumed."""

from pathlib import Path
from typing import Any

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.resuming import check_unchanged

CHECKPOINT = Path("ckpt/step-00000002.safetensors")


def dumped(**sections: Any) -> dict[str, Any]:
    return Settings.model_validate(sections).model_dump(mode="json")


def without(values: dict[str, Any], *paths: str) -> dict[str, Any]:
    """Settings as written by a version without these settings."""
    for path in paths:
        *sections, name = path.split(".")
        section = values
        for part in sections:
            section = section[part]
        del section[name]
    return values


def test_a_setting_missing_in_an_older_checkpoint_has_its_default() -> None:
    before = without(dumped(seed=1), "train.part", "model.architecture", "text")
    check_unchanged(CHECKPOINT, before, dumped(seed=1))
    after = dumped(seed=1, model={"architecture": "latte-t2v"}, text={"dtype": "float16"})
    with pytest.raises(LatteError) as refusal:
        check_unchanged(CHECKPOINT, before, after)
    assert str(refusal.value) == (
        f"{CHECKPOINT}: the run has other settings: model.architecture was latte, now latte-t2v;"
        " text.dtype was float32, now float16. Restore them, or use --allow-changes"
    )


def test_other_paths_and_more_steps_are_not_changes() -> None:
    before = dumped(run_dir="a", data={"captions": "a.csv"}, train={"steps": 5, "keep": 1})
    after = dumped(run_dir="b", data={"captions": "b.csv"}, train={"steps": 9, "keep": 2})
    check_unchanged(CHECKPOINT, before, after)
    falling = {"schedule": "cosine"}
    with pytest.raises(LatteError, match=r"train\.steps was 5, now 9"):
        check_unchanged(
            CHECKPOINT, dumped(train={"steps": 5, **falling}), dumped(train={"steps": 9, **falling})
        )
