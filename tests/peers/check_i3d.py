"""PyTorch's I3D against what is recorded, and TorchScript archives against our reader.

I3D=i3d-kinetics-400.ckpt python -m pytest -c /dev/null tests/peers/check_i3d.py, in the venv with torch, with
the folder of the project on PYTHONPATH. `python tests/peers/check_i3d.py` records the numbers again.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch_i3d import I3D, load_flax

from latte_cli.core.checkpoints.formats.numpy_arrays import read_arrays
from latte_cli.core.checkpoints.tensors import map_file
from latte_cli.core.models.i3d.weights import read_i3d

GOLDEN = Path(__file__).parents[1] / "golden" / "i3d" / "logits.npz"
CLIPS = {"9": 1, "16": 0, "25": 2}  # frames of a clip, and the seed of its noise


def published() -> I3D:
    """With the weights that the environment names."""
    return load_flax(I3D(), read_arrays(map_file(Path(os.environ["I3D"]))))


@torch.no_grad()
def logits(model: I3D) -> dict[str, np.ndarray]:
    """In float64, of a clip of noise in [-1, 1] for every length."""
    found = {}
    for frames, seed in CLIPS.items():
        clip = np.random.RandomState(seed).rand(int(frames), 224, 224, 3) * 2 - 1
        rounded = torch.tensor(clip.astype(np.float32)).double()
        found[frames] = model.double()(rounded.permute(3, 0, 1, 2)[None])[0].numpy()
    return found


def test_logits_are_the_recorded_ones() -> None:
    with np.load(GOLDEN) as recorded:
        for frames, found in logits(published()).items():
            np.testing.assert_allclose(found, recorded[frames], rtol=1e-9, atol=1e-9)


def test_a_torchscript_archive_has_the_filters_of_the_pickle(tmp_path: Path) -> None:
    torch.jit.script(published()).save(tmp_path / "i3d_torchscript.pt")
    script, pickled = read_i3d(tmp_path / "i3d_torchscript.pt"), read_i3d(Path(os.environ["I3D"]))
    assert script.keys() == pickled.keys()
    for name, part in script.items():
        assert np.array_equal(part.weight, pickled[name].weight)
        assert np.array_equal(part.bias, pickled[name].bias)


if __name__ == "__main__":
    sys.stdout.write(f"{GOLDEN}\n")
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez(GOLDEN, **logits(published()))
