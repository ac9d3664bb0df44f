import logging
import os
from types import SimpleNamespace
from typing import Any

import mindspore as ms
import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.machine import device as device_module
from latte_cli.core.machine.device import (
    OVERFLOW_MODE,
    check_switches,
    use_training_device,
    uses_flash_attention,
    uses_sink_mode,
)
from latte_cli.core.settings.schema import Settings
from latte_cli.core.settings.training import TrainSettings


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


def test_sink_mode_is_rejected_for_frames() -> None:
    with pytest.raises(LatteError, match=r"^train\.sink_mode: found true, .* cache\.in_memory$"):
        check_switches(settings_of({"sink_mode": True}, in_memory=False), "ascend")


def test_supported_switches_are_accepted_and_device_auto_is_not_checked() -> None:
    for device in ("auto", "cpu", "ascend", "gpu"):
        check_switches(settings_of({"recompute": True}), device)
    check_switches(settings_of({"dtype": "bfloat16", "sink_mode": True, "flash_attention": True}), "ascend")
    check_switches(settings_of({"dtype": "bfloat16", "sink_mode": True, "flash_attention": True}), "auto")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_flash_attention_is_on_by_default_on_ascend_with_16_bits(dtype: str) -> None:
    served = dtype != "float32"
    for switch, on in (("auto", True), (True, True), (False, False)):
        train = TrainSettings(dtype=dtype, flash_attention=switch)
        assert uses_flash_attention(train, "ascend") == (on and served)
        assert not uses_flash_attention(train, "cpu")
        assert not uses_flash_attention(train, "gpu")


def test_auto_that_stays_off_gives_a_warning_only_on_ascend(
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


@pytest.mark.parametrize("in_memory", [True, False])
def test_sinking_is_on_by_default_on_ascend_for_cached_latents(in_memory: bool) -> None:
    for switch, on in (("auto", {"ascend"}), (True, {"ascend", "gpu"}), (False, set())):
        settings = settings_of({"sink_mode": switch}, in_memory=in_memory)
        for device in ("cpu", "ascend", "gpu"):
            assert uses_sink_mode(settings, device) == (in_memory and device in on)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The calls of MindSpore, which is made to look as if it ran on Ascend."""
    made: list[tuple[str, Any]] = []

    def noted(name: str) -> Any:
        return lambda *args, **options: made.append((name, *args, *options.items()))

    monkeypatch.setenv(OVERFLOW_MODE, "")
    monkeypatch.delenv(OVERFLOW_MODE)
    monkeypatch.setattr(ms, "set_device", noted("set_device"))
    monkeypatch.setattr(ms.runtime, "set_memory", noted("set_memory"))
    precision = SimpleNamespace(conv_allow_hf32=noted("conv_allow_hf32"))
    monkeypatch.setattr(ms.device_context.ascend, "op_precision", precision)
    monkeypatch.setattr(device_module, "device_in_use", lambda: "ascend")
    return made


def test_on_ascend_the_memory_limit_is_set_and_convolutions_use_float32(calls: list[tuple[str, Any]]) -> None:
    settings = settings_of({"max_device_memory": "59GB", "dtype": "bfloat16"})
    assert use_training_device(settings.model_copy(update={"device": "ascend"})) == "ascend"
    assert calls == [
        ("set_device", "Ascend"),
        ("conv_allow_hf32", False),
        ("set_memory", ("max_size", "59GB")),
    ]
    assert OVERFLOW_MODE not in os.environ


@pytest.mark.parametrize("device", ["auto", "ascend"])
def test_float16_overflows_to_infinity_by_default(
    device: str, calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of({"dtype": "float16"}).model_copy(update={"device": device})
    use_training_device(settings)
    assert os.environ[OVERFLOW_MODE] == "INFNAN_MODE"
    monkeypatch.setenv(OVERFLOW_MODE, "SATURATION_MODE")
    use_training_device(settings)
    assert os.environ[OVERFLOW_MODE] == "SATURATION_MODE"
    assert "set_memory" not in [name for name, *_ in calls]


def test_on_a_cpu_no_limit_of_device_memory_is_set(
    calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "device_in_use", lambda: "cpu")
    settings = settings_of({"max_device_memory": "59GB", "dtype": "float16"})
    assert use_training_device(settings.model_copy(update={"device": "cpu"})) == "cpu"
    assert calls == []
    assert OVERFLOW_MODE not in os.environ


@pytest.mark.parametrize("size", ["59", "0GB", "59 GB", "59MB", "GB"])
def test_the_limit_of_device_memory_has_the_format_of_mindspore(size: str) -> None:
    with pytest.raises(ValueError, match="max_device_memory"):
        TrainSettings(max_device_memory=size)


def test_mindspore_accepts_every_allowed_limit_of_device_memory() -> None:
    for size in ("59GB", "5.5GB", "1GB"):
        TrainSettings(max_device_memory=size)
        ms.runtime.memory._check_memory_conf_valid(size)
