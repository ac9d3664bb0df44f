"""Where MindSpore runs. Everything that Ascend and GPU need beside the CPU's path is chosen here."""

import logging
import os

from latte_cli.core.errors import LatteError

TARGETS = {"cpu": "CPU", "ascend": "Ascend", "gpu": "GPU"}


def use_device(wanted: str) -> str:
    """Have MindSpore run on `wanted` (auto, cpu, ascend, gpu) and return which it is: cpu, ascend or gpu.

    Imports MindSpore. Raises LatteError when this MindSpore has no such device.
    """
    os.environ.setdefault("GLOG_v", "3")  # its C++ side's warnings; errors stay
    import mindspore as ms

    if wanted != "auto":
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
