"""Where MindSpore runs. Everything that Ascend and GPU need beside the CPU's path is chosen here.

None of it has been run on them: it keeps to MindSpore's documentation.
"""

import logging
import os

from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings, TrainSettings

log = logging.getLogger(__name__)

TARGETS = {"cpu": "CPU", "ascend": "Ascend", "gpu": "GPU"}
FLASH_DTYPES = ("float16", "bfloat16")  # of ops.flash_attention_score
SINKING = ("ascend", "gpu")  # of ms.data_sink


def use_device(wanted: str) -> str:
    """Have MindSpore run on `wanted` (auto, cpu, ascend, gpu) and return which it is: cpu, ascend or gpu.

    Imports MindSpore. Raises LatteError when this MindSpore has no such device.
    """
    os.environ.setdefault("GLOG_v", "3")  # its C++ side's warnings; errors stay
    import mindspore as ms

    # Once something has run, MindSpore refuses even the device that it runs on.
    if wanted != "auto" and TARGETS[wanted] != ms.get_context("device_target"):
        logging.disable(logging.CRITICAL)  # what it logs on the way is in the exception too
        try:
            ms.set_device(TARGETS[wanted])
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).strip().split(". ")[0]
            raise LatteError(
                f"device: found {wanted}, which MindSpore {ms.__version__} cannot use here ({reason});"
                " expected auto, or one that it can"
            ) from error
        finally:
            logging.disable(logging.NOTSET)
    return device_in_use()


def device_in_use() -> str:
    """What MindSpore runs on: cpu, ascend or gpu."""
    import mindspore as ms

    return {target: name for name, target in TARGETS.items()}[ms.get_context("device_target")]


def check_switches(settings: Settings, device: str) -> None:
    """Raise LatteError for a setting that training cannot serve on `device`; on "auto", not known yet, none.

    A switch set to auto is on or off as `uses_flash_attention` and `uses_sink_mode` say.
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
            reason = f"MindSpore has none on a {device.upper()}"
            raise LatteError(f"train.flash_attention: found true, expected auto or false: {reason}")
        if train.dtype not in FLASH_DTYPES:
            wanted = "float16 or bfloat16 as train.dtype, or auto or false"
            raise LatteError(f"train.flash_attention: found true with {train.dtype}, expected {wanted}")
    if train.sink_mode is True:
        if device not in SINKING:
            reason = "a CPU has nothing to sink to"
            raise LatteError(f"train.sink_mode: found true, expected auto or false: {reason}")
        if settings.cache.dir is None and not settings.cache.in_memory:
            reason = "the device encodes frames between two steps: fill a cache, or set cache.in_memory"
            raise LatteError(f"train.sink_mode: found true, expected auto or false: {reason}")


def uses_flash_attention(train: TrainSettings, device: str) -> bool:
    """Whether attention is the device's fused operator: on Ascend, of 16 bits, unless it is set to false."""
    served = device == "ascend" and train.dtype in FLASH_DTYPES
    if device == "ascend" and not served and train.flash_attention == "auto":
        log.warning("train.flash_attention: auto is off: Ascend's takes no %s", train.dtype)
    return served and train.flash_attention is not False


def uses_sink_mode(train: TrainSettings, device: str) -> bool:
    """Whether steps take their inputs from the device's queue: only if it is set to true.

    Auto is off: a step's loss is waited for before the next one begins, so that sinking could hide no more
    than the copy of a batch of latents.
    """
    return device in SINKING and train.sink_mode is True
