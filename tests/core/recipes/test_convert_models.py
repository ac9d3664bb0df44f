"""Models with weights of `latte convert` match the PyTorch original."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from latte_cli.core.checkpoints.mapping import LazyWeights, load_latte
from latte_cli.core.models.weights import load_weights
from latte_cli.core.recipes.convert import run
from tests.core.checkpoints.reference import DIGESTS, GOLDEN
from tests.core.models.latte.golden import arrays, model_of

ROUNDED = ("fp16_ema.pt", "bf16_ema.pt")  # without recorded outputs


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["class", "uncond", "variants"])
def test_converted_weights_match_the_original(tmp_path: Path, folder: str) -> None:
    inputs, model = arrays(folder, "inputs.npz"), model_of(folder, "ema")
    labels = inputs.get("y", np.zeros(len(inputs["t"])))
    for file in DIGESTS:
        for section in (
            DIGESTS[file] if file.startswith(f"latte/{folder}/") and not file.endswith(ROUNDED) else ()
        ):
            run(
                GOLDEN / file, tmp_path / "x.ckpt", weights=None if section == "bare" else section, force=True
            )
            load_weights(model, LazyWeights(load_latte(tmp_path / "x.ckpt")), source=file)
            found = model(Tensor(inputs["x"]), Tensor(inputs["t"], ms.int32), Tensor(labels, ms.int32))
            golden = arrays(folder, f"golden_{which(file, section)}.npz")["out"]
            np.testing.assert_allclose(found.asnumpy(), golden, rtol=0, atol=1e-4)


def which(file: str, section: str) -> str:
    """ema or model; an unmarked set is compared with both, which the folder's ckpt_train.pt contains."""
    both = DIGESTS[f"{Path(file).parent}/ckpt_train.pt"]
    return next(name for name, listed in both.items() if listed == DIGESTS[file][section])
