"""The text-to-video transformer with real widths, heads, tokens and frames, compared with diffusers."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from latte_cli.core.models.latte_t2v.shape import TextToVideoShape
from latte_cli.core.models.latte_t2v.transformer import LatteT2V, pack_text
from latte_cli.core.models.weights import load_weights
from tests.peers import golden_cases as cases

pytestmark = pytest.mark.slow

RECORDED = dict(np.load(Path(__file__).parents[3] / "golden" / "sizes" / "latte_t2v.npz"))


NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "latte-1-width" else [])
    for name in cases.LATTE_T2V
]


@pytest.mark.parametrize("name", NAMES)
def test_the_output_matches_diffusers(name: str) -> None:
    case = cases.LATTE_T2V[name]
    shape = TextToVideoShape(
        hidden_size=case.num_heads * case.head_dim,
        depth=case.num_layers,
        num_heads=case.num_heads,
        patch_size=2,
        caption_channels=case.caption_channels,
        sample_size=case.sample_size,
        num_frames=case.num_frames,
    )
    model = LatteT2V(shape)
    values = {one.name: cases.weights(one.name, one.shape) for one in model.get_parameters()}
    load_weights(model, values, source=name)
    x_t = cases.latents(case)
    states = cases.text_states(case, len(x_t))
    text = pack_text(states, np.ones(states.shape[:2], np.float32))[:, None]
    inputs = (x_t, cases.timesteps(len(x_t)).astype(np.int32), text)
    output = ms.jit(model.construct)(*map(Tensor, inputs)).asnumpy()
    assert cases.error(output, RECORDED, name) <= 1e-5
