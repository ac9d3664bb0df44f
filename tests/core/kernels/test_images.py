"""Convolution, group norm and upsampling of images, and their gradients, compared with float64 NumPy."""

import numpy as np
import pytest
from mindspore import Tensor
from numpy.lib.stride_tricks import sliding_window_view

from latte_cli.core.models.vae.convolution import conv2d, double, group_norm
from tests.core.kernels.compare import assert_close, value_and_grads

RANDOM = np.random.default_rng(0)
STEP = 1e-5


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """Each window times the filter; stride 1 pads by half the filter, stride 2 does not pad."""
    pads = [(side // 2 if stride == 1 else 0,) * 2 for side in weight.shape[2:]]
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *pads))
    windows = sliding_window_view(padded, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]


@pytest.mark.parametrize(
    ("x", "filters", "side", "stride"),
    [
        ((2, 5, 9, 13), 7, 3, 1),
        ((2, 3, 8, 8), 8, 1, 1),
        ((1, 4, 6, 290), 13, 3, 1),  # a row longer than a block of output pixels
        ((9, 2, 33, 17), 3, 5, 1),  # more images than groups of partial sums
        ((2, 5, 9, 13), 7, 3, 2),
        ((1, 4, 16, 8), 6, 3, 2),  # an even side: the last row and column are not used
        ((3, 8, 12, 16), 8, 3, 1),  # from here on computed by tiles, some of them in two panels
        (
            (2, 3, 9, 11),
            21,
            3,
            1,
        ),  # sides that are no multiple of a tile, channels that are no multiple of a block
        ((1, 40, 5, 300), 37, 3, 1),  # a row of tiles longer than a panel
        ((1, 260, 16, 5), 70, 3, 1),  # channels for several products and several tasks
    ],
)
def test_convolution_and_its_gradients_match_the_formula(
    path: str, x: tuple[int, ...], filters: int, side: int, stride: int
) -> None:
    arrays = [numbers(*x), numbers(filters, x[1], side, side), numbers(filters)]
    expected = convolved(*arrays, stride)
    dout = numbers(*expected.shape)
    padding = side // 2 if stride == 1 else 0

    def function(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return conv2d(image, weight, bias, stride, padding)

    found, grads = value_and_grads(function, arrays, dout, jit=True)
    assert_close(found, expected, f"{path}: values")
    for place, name in enumerate(
        ("dx", "dweight")
    ):  # linear in each argument, so finite differences are exact in any direction
        direction = numbers(*arrays[place].shape)
        moved = [direction if i == place else array for i, array in enumerate(arrays)]
        change = (convolved(*moved[:2], np.zeros(filters), stride) * dout).sum()
        size = np.linalg.norm(grads[place]) * np.linalg.norm(direction)
        assert abs((grads[place] * direction.astype(np.float64)).sum() - change) < 1e-5 * size, name
    assert_close(grads[2], dout.sum((0, 2, 3), dtype=np.float64), "dbias")


@pytest.mark.parametrize(("channels", "filters"), [(8, 8), (4, 3)])  # by tiles, and by single filter taps
def test_the_convolution_of_an_image_does_not_depend_on_other_images(channels: int, filters: int) -> None:
    images, weight = numbers(7, channels, 20, 12), Tensor(numbers(filters, channels, 3, 3))
    together = conv2d(Tensor(images), weight, None, 1, 1).asnumpy()
    for place, image in enumerate(images):
        alone = conv2d(Tensor(image[None]), weight, None, 1, 1).asnumpy()
        np.testing.assert_array_equal(alone[0], together[place])


def normalised(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, groups: int, silu: bool) -> np.ndarray:
    apart = x.astype(np.float64).reshape(len(x), groups, -1)
    apart = (apart - apart.mean(-1, keepdims=True)) / np.sqrt(apart.var(-1, keepdims=True) + 1e-6)
    y = apart.reshape(x.shape) * scale[:, None, None] + shift[:, None, None]
    return y / (1 + np.exp(-y)) if silu else y


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_group_norm_and_its_gradients_match_the_formula(path: str, silu: bool, mean: float) -> None:
    arrays = [numbers(2, 12, 5, 7) + np.float32(mean), numbers(12), numbers(12)]
    dout = numbers(2, 12, 5, 7)

    def function(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return group_norm(x, 4, scale, shift, 1e-6, silu=silu)

    found, grads = value_and_grads(function, arrays, dout, jit=True)
    assert_close(found, normalised(*arrays, 4, silu), f"{path}: values", 1e-5 if mean == 0 else 1e-4)
    for place in range(3):
        direction = numbers(*arrays[place].shape).astype(np.float64)
        ends = [
            [array + sign * STEP * direction if i == place else array for i, array in enumerate(arrays)]
            for sign in (1, -1)
        ]
        change = ((normalised(*ends[0], 4, silu) - normalised(*ends[1], 4, silu)) * dout).sum() / (2 * STEP)
        size = np.linalg.norm(grads[place]) * np.linalg.norm(direction)
        assert abs((grads[place] * direction).sum() - change) < 1e-4 * size, f"{path}: gradient {place}"


def test_upsampling_repeats_pixels_and_adds_their_gradients(path: str) -> None:
    x, offset, dout = numbers(2, 3, 5, 70), np.zeros((2, 3, 10, 140), np.float32), numbers(2, 3, 10, 140)

    def function(image: Tensor, added: Tensor) -> Tensor:
        return double(image) + added

    found, grads = value_and_grads(function, [x, offset], dout, jit=True)
    np.testing.assert_array_equal(found, x.repeat(2, 2).repeat(2, 3), path)
    assert_close(grads[0], dout.reshape(2, 3, 5, 2, 70, 2).sum((3, 5), dtype=np.float64), "gradient")
