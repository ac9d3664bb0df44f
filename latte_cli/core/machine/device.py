"""Select MindSpore's device. Everything that Ascend and GPU need in addition to the CPU code is chosen here.

The Ascend and GPU code follows MindSpore's documentation and is untested.
"""

import logging
import os

from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings
from latte_cli.core.settings.training import TrainSettings

log = logging.getLogger(__name__)

TARGETS = {"cpu": "CPU", "ascend": "Ascend", "gpu": "GPU"}
FLASH_DTYPES = ("float16", "bfloat16")  # supported by ops.flash_attention_score
SINKING = ("ascend", "gpu")  # supported by ms.data_sink
OVERFLOW_MODE = "MS_ASCEND_CHECK_OVERFLOW_MODE"
"""Whether Ascend's arithmetic overflows to infinity, as a loss scale needs, or saturates."""


def use_device(requested: str) -> str:
    """Select MindSpore's device (auto, cpu, ascend, gpu) and return the one in use: cpu, ascend or gpu.

    Imports MindSpore. Raises LatteError if this installation does not support the device.
    """
    os.environ.setdefault("GLOG_v", "3")  # hides warnings of MindSpore's C++ code, keeps errors
    import mindspore as ms

    # Once something has run, MindSpore rejects even the device already in use.
    if requested != "auto" and TARGETS[requested] != ms.get_context("device_target"):
        logging.disable(logging.CRITICAL)  # the exception contains what it would log
        try:
            ms.set_device(TARGETS[requested])
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).strip().split(". ")[0]
            raise LatteError(
                f"device: found {requested}, which MindSpore {ms.__version__} cannot use here ({reason});"
                " expected auto or a supported device"
            ) from error
        finally:
            logging.disable(logging.NOTSET)
    device = device_in_use()
    if device == "ascend":  # where convolutions of float32 have the precision of HF32 by default
        ms.device_context.ascend.op_precision.conv_allow_hf32(False)
    return device


def use_training_device(settings: Settings) -> str:
    """`use_device` for training, with its limit of device memory; call it once per process.

    With float16, numbers overflow to infinity on Ascend unless the environment chooses otherwise.
    """
    train = settings.train
    if train.dtype == "float16" and settings.device in ("auto", "ascend"):
        os.environ.setdefault(OVERFLOW_MODE, "INFNAN_MODE")  # read when MindSpore initialises the device
    device = use_device(settings.device)
    if device != "cpu" and train.max_device_memory is not None:
        import mindspore as ms

        ms.runtime.set_memory(max_size=train.max_device_memory)
    return device


def device_in_use() -> str:
    """The device that MindSpore uses: cpu, ascend or gpu."""
    import mindspore as ms

    return {target: name for name, target in TARGETS.items()}[ms.get_context("device_target")]


def check_switches(settings: Settings, device: str) -> None:
    """Raise LatteError for a setting that training does not support on `device` ("auto": nothing is checked).

    For switches set to auto see `uses_flash_attention` and `uses_sink_mode`.
    """
    train = settings.train
    if device == "auto":
        return
    if train.dtype == "bfloat16" and device == "cpu":
        raise LatteError(
            "train.dtype: found bfloat16, expected float32 or float16: MindSpore has no bfloat16"
            " matrix product on a CPU"
        )
    if train.flash_attention is True:
        if device != "ascend":
            reason = f"MindSpore does not provide it on {device.upper()}"
            raise LatteError(f"train.flash_attention: found true, expected auto or false: {reason}")
        if train.dtype not in FLASH_DTYPES:
            expected = "float16 or bfloat16 as train.dtype, or auto or false"
            raise LatteError(f"train.flash_attention: found true with {train.dtype}, expected {expected}")
    if train.sink_mode is True:
        if device not in SINKING:
            reason = "a CPU has no queue to sink to"
            raise LatteError(f"train.sink_mode: found true, expected auto or false: {reason}")
        if settings.cache.dir is None and not settings.cache.in_memory:
            reason = "the device encodes frames between steps; use a cache or set cache.in_memory"
            raise LatteError(f"train.sink_mode: found true, expected auto or false: {reason}")


def has_flash_attention(dtype: str, device: str) -> bool:
    """Whether there is a fused attention operator for attention in `dtype` on `device`."""
    return device == "ascend" and dtype in FLASH_DTYPES


def uses_flash_attention(train: TrainSettings, device: str) -> bool:
    """Whether to use the fused attention operator: on Ascend with a 16-bit dtype, unless set to false."""
    served = has_flash_attention(train.dtype, device)
    if device == "ascend" and not served and train.flash_attention == "auto":
        log.warning("train.flash_attention: auto is off: not supported for %s", train.dtype)
    return served and train.flash_attention is not False


def uses_sink_mode(settings: Settings, device: str) -> bool:
    """Whether steps read their inputs from the device's queue: where set to true, and by default on Ascend.

    Only for cached latents: frames are encoded by the device itself, between steps.
    """
    cached = settings.cache.dir is not None or settings.cache.in_memory
    switch = settings.train.sink_mode
    on = device in SINKING if switch is True else device == "ascend" and switch == "auto"
    return on and cached
