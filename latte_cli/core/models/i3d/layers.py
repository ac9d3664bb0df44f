"""Names and sizes of I3D's layers: Inception-v1 with all filters inflated in time. Does not import MindSpore.

Names are those of the TensorFlow original (github.com/google-deepmind/kinetics-i3d), in its order.
"""

from typing import NamedTuple

NUM_CLASSES = 400
IMAGE_SIZE = 224
MIN_FRAMES = 9
"""Eight frames are reduced to one, and the last pooling needs two."""


class Layer(NamedTuple):
    """A convolution with a cubic kernel of size `kernel`, its normalisation and ReLU."""

    name: str
    inputs: int
    outputs: int
    kernel: int


# Output channels of the four branches, kernel sizes 1; 1, 3; 1, 3; pooling, 1.
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
STEM = (
    Layer("Conv3d_1a_7x7", 3, 64, 7),
    Layer("Conv3d_2b_1x1", 64, 64, 1),
    Layer("Conv3d_2c_3x3", 64, 192, 3),
)
LOGITS = "Logits/Conv3d_0c_1x1"


def mixed_layers(name: str, inputs: int) -> tuple[Layer, ...]:
    """The six convolutions of an Inception module."""
    b0, b1a, b1b, b2a, b2b, b3 = MIXED[name]
    return (
        Layer(f"{name}/Branch_0/Conv3d_0a_1x1", inputs, b0, 1),
        Layer(f"{name}/Branch_1/Conv3d_0a_1x1", inputs, b1a, 1),
        Layer(f"{name}/Branch_1/Conv3d_0b_3x3", b1a, b1b, 3),
        Layer(f"{name}/Branch_2/Conv3d_0a_1x1", inputs, b2a, 1),
        Layer(f"{name}/Branch_2/Conv3d_0b_3x3", b2a, b2b, 3),
        Layer(f"{name}/Branch_3/Conv3d_0b_1x1", inputs, b3, 1),
    )


def all_layers() -> tuple[Layer, ...]:
    """Every convolution in order; the last one, for the logits, has no normalisation."""
    layers, inputs = list(STEM), STEM[-1].outputs
    for name in MIXED:
        layers += mixed_layers(name, inputs)
        inputs = mixed_outputs(name)
    return (*layers, Layer(LOGITS, inputs, NUM_CLASSES, 1))


def mixed_outputs(name: str) -> int:
    """Output channels of a module: those of its branches, concatenated."""
    b0, _, b1b, _, b2b, b3 = MIXED[name]
    return b0 + b1b + b2b + b3


def clip_flops(num_frames: int) -> int:
    """Floating-point operations of the convolutions for one 224 x 224 clip, two per multiply-add."""
    halved = -(-num_frames // 2)
    places = {"1": halved * 112**2, "2": halved * 56**2, "3": halved * 28**2}
    places |= {"4": -(-halved // 2) * 14**2, "5": -(-halved // 4) * 7**2}
    return 2 * sum(
        layer.kernel**3 * layer.inputs * layer.outputs * places[layer.name.partition("_")[2][:1]]
        for layer in all_layers()[:-1]
    )
