"""Latte with real widths, heads, tokens and frames, compared with PyTorch (tests/golden/sizes)."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.models.latte.transformer import Latte
from latte_cli.core.models.weights import load_weights
from tests.peers import golden_cases as cases

pytestmark = pytest.mark.slow

RECORDED = dict(np.load(Path(__file__).parents[3] / "golden" / "sizes" / "latte.npz"))


PLAIN = "256-tokens-16-frames"
NAMES = [pytest.param(name, marks=[pytest.mark.plain] if name == PLAIN else []) for name in cases.LATTE]


@pytest.mark.parametrize("name", NAMES)
def test_the_output_matches_pytorch(name: str) -> None:
    assert cases.error(run(name), RECORDED, name) <= 1e-5


def run(name: str) -> NDArray[np.float32]:
    """The case's inputs through a compiled model."""
    case = cases.LATTE[name]
    shape = LatteShape(
        case.hidden_size,
        case.depth,
        case.num_heads,
        2,
        sample_size=case.sample_size,
        num_frames=case.num_frames,
        condition="class",
        num_classes=case.num_classes,
    )
    model = Latte(shape)
    values = {
        one.name: cases.weights(one.name, one.shape) for one in model.get_parameters() if one.requires_grad
    }
    tables = {one.name: one.asnumpy() for one in model.get_parameters() if not one.requires_grad}
    load_weights(model, values | tables, source=name)
    x_t = cases.latents(case)
    labels = cases.labels(len(x_t), case.num_classes).astype(np.int32)[:, None]
    inputs = (x_t, cases.timesteps(len(x_t)).astype(np.int32), labels)
    return ms.jit(model.construct)(*map(Tensor, inputs)).asnumpy()
