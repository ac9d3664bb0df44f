import logging
from typing import Any

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.machine.device import check_switches, uses_flash_attention, uses_sink_mode
from latte_cli.core.settings.schema import Settings, TrainSettings


def settings_of(train: dict[str, Any], *, in_memory: bool = True) -> Settings:
    return Settings.model_validate({"train": train, "cache": {"in_memory": in_memory}})


@pytest.mark.parametrize(
    ("device", "train", "reason"),
    [
        (
            "cpu",
            {"flash_attention": True},
            r"^train\.flash_attention: found true, expected .* on CPU$",
        ),
        (
            "gpu",
            {"flash_attention": True},
            r"^train\.flash_attention: found true, expected .* on GPU$",
        ),
        (
            "ascend",
            {"flash_attention": True, "dtype": "float32"},
            r"^train\.flash_attention: found true with float32, expected float16 or bfloat16 as train\.dtype",
        ),
        (
            "cpu",
            {"sink_mode": True},
            r"^train\.sink_mode: found true, expected auto or false: a CPU",
        ),
        (
            "cpu",
            {"dtype": "bfloat16"},
            r"^train\.dtype: found bfloat16, expected .* on a CPU$",
        ),
    ],
)
def test_unsupported_switches_are_rejected_by_name(device: str, train: dict[str, Any], reason: str) -> None:
    with pytest.raises(LatteError, match=reason):
        check_switches(settings_of(train), device)


def test_frames_are_not_sunk() -> None:
    with pytest.raises(LatteError, match=r"^train\.sink_mode: found true, .* cache\.in_memory$"):
        check_switches(settings_of({"sink_mode": True}, in_memory=False), "ascend")


def test_auto_is_served_everywhere_and_a_device_not_known_yet_is_not_judged() -> None:
    for device in ("auto", "cpu", "ascend", "gpu"):
        check_switches(settings_of({"recompute": True}), device)
    check_switches(settings_of({"dtype": "bfloat16", "sink_mode": True, "flash_attention": True}), "ascend")
    check_switches(settings_of({"dtype": "bfloat16", "sink_mode": True, "flash_attention": True}), "auto")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_flash_attention_is_on_on_ascend_with_16_bits_unless_refused(dtype: str) -> None:
    served = dtype != "float32"
    for switch, on in (("auto", True), (True, True), (False, False)):
        train = TrainSettings(dtype=dtype, flash_attention=switch)
        assert uses_flash_attention(train, "ascend") == (on and served)
        assert not uses_flash_attention(train, "cpu")
        assert not uses_flash_attention(train, "gpu")


def test_auto_that_stays_off_is_a_warning_only_where_one_would_expect_it_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        for device in ("cpu", "gpu"):
            uses_flash_attention(TrainSettings(dtype="float32"), device)
        uses_flash_attention(TrainSettings(dtype="float16"), "ascend")
        assert not caplog.records
        uses_flash_attention(TrainSettings(dtype="float32"), "ascend")
    (warning,) = caplog.records
    assert warning.message == "train.flash_attention: auto is off: not supported for float32"


def test_sinking_is_on_only_when_it_is_asked_for() -> None:
    assert not uses_sink_mode(TrainSettings(), "ascend")
    assert uses_sink_mode(TrainSettings(sink_mode=True), "ascend")
    assert not uses_sink_mode(TrainSettings(sink_mode=False), "ascend")
