"""AutoencoderKL: encodes images to moments of latents, decodes latents to images (Rombach et al. 2022).

Parameter names and shapes are those of diffusers, so its checkpoints need no mapping.
"""

from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn
from numpy.typing import NDArray

from latte_cli.core.checkpoints.autoencoder import AutoencoderShape
from latte_cli.core.models.vae.layers import Convolution, GroupNorm, Middle, Stage


class AutoencoderKL(nn.Cell):
    """Stable Diffusion's autoencoder; weights are zero until loaded."""

    def __init__(self, shape: AutoencoderShape):
        super().__init__()
        latents, moments = shape.latent_channels, 2 * shape.latent_channels
        self.shape = shape
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape)
        self.quant_conv = Convolution(moments, moments, size=1) if shape.use_quant_conv else None
        self.post_quant_conv = Convolution(latents, latents, size=1) if shape.use_quant_conv else None

    def load(self, read: Callable[[str], NDArray[Any]]) -> None:
        """Set every parameter to the result of `read(name)`."""
        for parameter in self.get_parameters():
            parameter.set_data(Tensor(read(parameter.name), parameter.dtype))

    def cast(self, dtype: ms.Type) -> None:
        """Compute in another type from now on; softmax stays float32."""
        for parameter in self.get_parameters():
            parameter.set_dtype(dtype)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, 3, H, W) to mean and log-variance, (N, 8, H / 8, W / 8)."""
        moments = self.encoder(images)
        return moments if self.quant_conv is None else self.quant_conv(moments)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode unscaled latents (N, 4, H / 8, W / 8) to images (N, 3, H, W)."""
        return self.decoder(latents if self.post_quant_conv is None else self.post_quant_conv(latents))


class Encoder(nn.Cell):
    """Encodes images to moments before the quantisation layer, in stages of decreasing resolution."""

    def __init__(self, shape: AutoencoderShape):
        super().__init__()
        widths, groups, last = shape.block_out_channels, shape.norm_num_groups, shape.block_out_channels[-1]
        self.conv_in = Convolution(shape.in_channels, widths[0])
        self.down_blocks = nn.CellList(
            [
                Stage(
                    widths[max(0, place - 1)],
                    width,
                    shape.layers_per_block,
                    groups,
                    resample="down" if place + 1 < len(widths) else None,
                )
                for place, width in enumerate(widths)
            ]
        )
        self.mid_block = Middle(last, groups, attends=shape.mid_block_add_attention)
        self.conv_norm_out = GroupNorm(last, groups, silu=True)
        self.conv_out = Convolution(last, 2 * shape.latent_channels)

    def construct(self, images: Tensor) -> Tensor:
        images = self.conv_in(images)
        for stage in self.down_blocks:
            images = stage(images)
        return self.conv_out(self.conv_norm_out(self.mid_block(images)))


class Decoder(nn.Cell):
    """Decodes latents to images, in stages of increasing resolution; one layer more each than the encoder."""

    def __init__(self, shape: AutoencoderShape):
        super().__init__()
        widths, groups = shape.block_out_channels[::-1], shape.norm_num_groups
        self.conv_in = Convolution(shape.latent_channels, widths[0])
        self.mid_block = Middle(widths[0], groups, attends=shape.mid_block_add_attention)
        self.up_blocks = nn.CellList(
            [
                Stage(
                    widths[max(0, place - 1)],
                    width,
                    shape.layers_per_block + 1,
                    groups,
                    resample="up" if place + 1 < len(widths) else None,
                )
                for place, width in enumerate(widths)
            ]
        )
        self.conv_norm_out = GroupNorm(widths[-1], groups, silu=True)
        self.conv_out = Convolution(widths[-1], shape.out_channels)

    def construct(self, latents: Tensor) -> Tensor:
        images = self.mid_block(self.conv_in(latents))
        for stage in self.up_blocks:
            images = stage(images)
        return self.conv_out(self.conv_norm_out(images))
