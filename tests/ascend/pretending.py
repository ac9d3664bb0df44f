"""Let this program take a CPU for an Ascend device."""

from collections.abc import Callable
from typing import Any

import mindspore as ms


def answer_ascend(replace: Callable[[object, str, Any], None] = setattr) -> Callable[[str], Any]:
    """Answer Ascend where this program asks MindSpore for its device; returns the function that answers.

    MindSpore itself asks elsewhere. replace: sets an attribute.
    """
    real = ms.get_context

    def get_context(key: str) -> Any:
        return "Ascend" if key == "device_target" else real(key)

    replace(ms, "get_context", get_context)
    return get_context
