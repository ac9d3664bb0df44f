"""Select MindSpore's device. Everything that Ascend and GPU need in addition to the CPU code is chosen here.

The Ascend and GPU code follows MindSpore's documentation and is untested.
"""

import logging
import os

from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings, TrainSettings

log = logging.getLogger(__name__)

TARGETS = {"cpu": "CPU", "ascend": "Ascend", "gpu": "GPU"}
FLASH_DTYPES = ("float16", "bfloat16")  # supported by ops.flash_attention_score
SINKING = ("ascend", "gpu")  # supported by ms.data_sink


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
    return device_in_use()


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


def uses_flash_attention(train: TrainSettings, device: str) -> bool:
    """Whether to use the fused attention operator: on Ascend with a 16-bit dtype, unless set to false."""
    served = device == "ascend" and train.dtype in FLASH_DTYPES
    if device == "ascend" and not served and train.flash_attention == "auto":
        log.warning("train.flash_attention: auto is off: not supported for %s", train.dtype)
    return served and train.flash_attention is not False


def uses_sink_mode(train: TrainSettings, device: str) -> bool:
    """Whether steps read their inputs from the device's queue: only if set to true.

    Auto is off: each step waits for the previous loss, so sinking could only hide the copy of a batch of
    latents.
    """
    return device in SINKING and train.sink_mode is True
