from typing import Any

import pytest

from latte_cli.core.device import check_switches
from latte_cli.core.errors import LatteError
from latte_cli.core.settings import TrainSettings


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"flash_attention": True}, r"^train\.flash_attention: found true, wanted auto or .* on a CPU$"),
        ({"sink_mode": True}, r"^train\.sink_mode: found true, wanted auto or false: a CPU has nothing"),
        ({"dtype": "bfloat16"}, r"^train\.dtype: found bfloat16, wanted float32 or float16: .* on a CPU$"),
    ],
)
def test_what_a_cpu_cannot_serve_is_refused_by_name(setting: dict[str, Any], reason: str) -> None:
    with pytest.raises(LatteError, match=reason):
        check_switches(TrainSettings(**setting), "cpu")


def test_auto_is_served_everywhere() -> None:
    for device in ("auto", "cpu", "ascend", "gpu"):
        check_switches(TrainSettings(recompute=True), device)
    check_switches(TrainSettings(dtype="bfloat16"), "ascend")
