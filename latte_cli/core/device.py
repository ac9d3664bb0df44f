"""Where MindSpore runs. Everything that Ascend and GPU need beside the CPU's path is chosen here."""

import logging
import os

from latte_cli.core.errors import LatteError
from latte_cli.core.settings import TrainSettings

TARGETS = {"cpu": "CPU", "ascend": "Ascend", "gpu": "GPU"}


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
                " wanted auto, or one that it can"
            ) from error
        finally:
            logging.disable(logging.NOTSET)
    return {target: name for name, target in TARGETS.items()}[ms.get_context("device_target")]


def check_switches(train: TrainSettings, device: str) -> None:
    """Raise LatteError for a setting that training cannot serve on `device` (cpu, ascend, gpu).

    A switch set to auto is served on every device: off where it cannot be on.
    """
    if train.dtype == "bfloat16" and device == "cpu":
        raise LatteError(
            "train.dtype: found bfloat16, wanted float32 or float16: MindSpore has no bfloat16 matrix product"
            " on a CPU"
        )
    if train.flash_attention is True:
        reason = "MindSpore has none on a CPU" if device == "cpu" else f"training uses none on {device} yet"
        raise LatteError(f"train.flash_attention: found true, wanted auto or false: {reason}")
    if train.sink_mode is True:
        reason = "a CPU has nothing to sink to" if device == "cpu" else f"training does not sink on {device}"
        raise LatteError(f"train.sink_mode: found true, wanted auto or false: {reason}")
