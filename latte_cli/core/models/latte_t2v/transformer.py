"""Latte-1, the text-to-video transformer (arXiv 2401.03048), with diffusers' parameter names.

MindONE's implementation is not used: on a CPU it cannot be compiled, and it fails with a text mask.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from latte_cli.core.checkpoints.layouts.matching import TIMESTEP_CHANNELS
from latte_cli.core.kernels import operators as kernels
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.models.latte.layers import PatchEmbedder
from latte_cli.core.models.latte_t2v.layers import MASKED, Precision, Projection, TextBlock, TimeBlock
from latte_cli.core.models.latte_t2v.shape import TextToVideoShape
from latte_cli.core.models.positions import frame_table, position_table, timestep_table
from latte_cli.core.models.weights import DTYPES, zeros
from latte_cli.core.rng import Stream, draw

EMBEDDING_STD = 0.02  # of the embedders of timestep and text


class LatteT2V(nn.Cell):
    """Predicts the noise in latents and, if learned, its variance, conditioned on text states.

    `size` is (height, width) in latent pixels and `num_frames` the clip's frames, by default those of the
    checkpoint. One frame is an image; without `temporal` all frames are independent images. `stored` is the
    parameters' type, `dtype` that of the blocks' products; residuals, normalisation and softmax are float32.
    """

    timestep_embedder = "adaln_single"
    num_classes = None

    def __init__(
        self,
        shape: TextToVideoShape,
        *,
        size: tuple[int, int] | None = None,
        num_frames: int | None = None,
        temporal: bool = True,
        dtype: str = "float32",
        stored: str = "float32",
    ):
        super().__init__()
        self.shape = shape
        self.learn_sigma = shape.learn_sigma
        height, breadth = size or (shape.sample_size, shape.sample_size)
        self.grid = (height // shape.patch_size, breadth // shape.patch_size)
        self.num_frames = num_frames or shape.num_frames
        width, patch = shape.hidden_size, shape.patch_size**2
        wide, fast = Precision(DTYPES[stored]), Precision(DTYPES[stored], DTYPES[dtype])
        self.temporal = temporal
        self.pos_embed = PatchEmbedder(shape.in_channels, width, shape.patch_size, "linear")
        self.places = Tensor(place_table(shape, self.grid)[None].astype(np.float32))
        self.frame_places = Tensor(frame_table(width, self.num_frames).astype(np.float32)[:, None])
        self.timestep_table = Tensor(timestep_table(TIMESTEP_CHANNELS, shape.num_timesteps))
        self.adaln_single = _TimestepEmbedder(width, wide)
        self.caption_projection = _TextProjection(shape.caption_channels, width, wide)
        options = (width, shape.num_heads, fast)
        over_space = [TextBlock(*options, bias=shape.attention_bias) for _ in range(shape.depth)]
        over_time = [TimeBlock(*options, bias=shape.attention_bias) for _ in range(shape.depth)]
        self.transformer_blocks = nn.CellList(over_space)
        self.temporal_transformer_blocks = nn.CellList(over_time)
        self.scale_shift_table = zeros(2, width, dtype=wide.stored)
        self.proj_out = Projection(width, patch * shape.out_channels, wide)

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(F, C, h, w) of the clips that it makes."""
        height, width = (side * self.shape.patch_size for side in self.grid)
        return self.num_frames, self.shape.in_channels, height, width

    def config(self) -> dict[str, Any]:
        """The `config.json` to write next to checkpoints, which defines the position scale."""
        return self.shape.to_config()

    def lora_targets(self) -> Iterator[tuple[str, Projection]]:
        """Name and cell of the input and output projections of every attention."""
        for name, cell in self.cells_and_names():
            if isinstance(cell, Projection) and ".attn" in name:
                yield name, cell

    def every_block(self) -> Iterable[nn.Cell]:
        """The spatial blocks, then the temporal ones."""
        return [*self.transformer_blocks, *self.temporal_transformer_blocks]

    def use_flash_attention(self) -> None:
        """Use Ascend's fused operator for every attention; call before compilation."""
        for block in self.every_block():
            block.attn1.flash_attention = True
        for block in self.transformer_blocks:
            block.attn2.flash_attention = True

    def construct(self, x_t: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """`prepare` the condition and `predict` at integer timesteps (B,)."""
        return self.predict(x_t, ops.gather(self.timestep_table, timesteps, 0), self.prepare(condition))

    def prepare(self, condition: Tensor) -> tuple[Tensor, ...]:
        """`read_text` of the clip's text, then of the texts of I still images after it, if any.

        `condition` is (B, 1 + I, N, D + 1) from `pack_text`.
        """
        of_clip = self.read_text(condition[:, 0])
        if condition.shape[1] == 1:
            return of_clip
        return of_clip + self.read_text(condition[:, 1:].reshape(-1, *condition.shape[2:]))

    def read_text(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Map packed text (B, N, D + 1) to the cross-attention inputs of all blocks: 1 + 2 * depth tensors.

        That is the bias of its scores, (B, N), then block by block its keys and its values, (B, N, D) each.
        """
        channels = self.shape.caption_channels
        wide = kernels.like(condition, condition)
        states = self.caption_projection(wide[..., :channels])
        text = ((1.0 - wide[..., channels]) * MASKED,)
        for block in self.transformer_blocks:
            text = (*text, *block.attn2.read(states))
        return text

    def predict(self, x_t: Tensor, sinusoids: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Predict from noised latents (B, F, C, h, w): (B, F, out_channels, h, w) float32.

        `sinusoids` (B, 256) are `timestep_rows`. Frames beyond num_frames are still images, each with a
        separate text (joint image-video training).
        """
        modulation = self.modulation(sinusoids, prepared)
        return self.finish(self.run_blocks(self.embed(x_t), modulation, prepared), modulation)

    def modulation(self, sinusoids: Tensor, prepared: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The modulation of the blocks, (B, 6 * D), and of the last layer, (B, D)."""
        embedded, timestep = self.adaln_single(sinusoids)
        return timestep, embedded

    def run_blocks(
        self, tokens: Tensor, modulation: tuple[Tensor, Tensor], prepared: tuple[Tensor, ...]
    ) -> Tensor:
        """Tokens (B, F * T, D) through every block, which read `prepared`."""
        of_text = 1 + 2 * self.shape.depth
        texts = [prepared[start : start + of_text] for start in range(0, len(prepared), of_text)]
        frame = self.grid[0] * self.grid[1]
        frames, clip = tokens.shape[1] // frame, self.num_frames * frame
        for place in range(self.shape.depth):
            read = [(text[0], text[1 + 2 * place], text[2 + 2 * place]) for text in texts]
            tokens = self.transformer_blocks[place](tokens, modulation[0], (frames, self.num_frames), *read)
            if not self.temporal:
                continue
            moving = tokens if frames == self.num_frames else tokens[:, :clip]
            if place == 0 and self.num_frames > 1:
                moving = self.add_frame_places(moving)
            moving = self.temporal_transformer_blocks[place](moving, modulation[0], self.num_frames)
            tokens = moving if frames == self.num_frames else kernels.concat((moving, tokens[:, clip:]), 1)
        return tokens

    def embed(self, x_t: Tensor) -> Tensor:
        """Map latents (B, F, C, h, w) to tokens (B, F * T, D) with spatial position embedding."""
        clips, frames, channels, height, width = x_t.shape
        images = kernels.like(x_t, x_t).reshape(clips * frames, channels, height, width)
        tokens = kernels.add_spread(self.pos_embed(images), self.places, self.places.shape)
        return tokens.reshape(clips, -1, tokens.shape[2])

    def add_frame_places(self, tokens: Tensor) -> Tensor:
        """Add the frame table to tokens (B, F * T, D)."""
        clips, _, width = tokens.shape
        moving = tokens.reshape(clips, self.num_frames, -1, width)
        places = (1, self.num_frames, 1, width)
        return kernels.add_spread(moving, self.frame_places, places).reshape(tokens.shape)

    def finish(self, tokens: Tensor, modulation: tuple[Tensor, Tensor]) -> Tensor:
        """Tokens (B, F * T, D) after the blocks to the prediction (B, F, out_channels, h, w)."""
        table = kernels.like(self.scale_shift_table, tokens)
        shift, scale = modulation[1] + table[0], modulation[1] + table[1]
        return self.unpatchify(self.proj_out(kernels.modulated_layer_norm(tokens, shift, scale)))

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Map patches (B, F * T, p * p * C), pixels before channels, to (B, F, C, h, w)."""
        (rows, columns), patch, channels = self.grid, self.shape.patch_size, self.shape.out_channels
        cells = patches.reshape(-1, rows, columns, patch, patch, channels).transpose(0, 5, 1, 3, 2, 4)
        return cells.reshape(patches.shape[0], -1, channels, rows * patch, columns * patch)


class _TimestepEmbedder(nn.Cell):
    """Map sinusoids (B, 256) to the timestep embedding (B, D) and the blocks' modulation (B, 6 * D)."""

    def __init__(self, width: int, precision: Precision):
        super().__init__()
        self.emb = nn.Cell()
        self.emb.timestep_embedder = nn.Cell()
        self.emb.timestep_embedder.linear_1 = Projection(TIMESTEP_CHANNELS, width, precision)
        self.emb.timestep_embedder.linear_2 = Projection(width, width, precision)
        self.linear = Projection(width, 6 * width, precision)

    def construct(self, sinusoids: Tensor) -> tuple[Tensor, Tensor]:
        mlp = self.emb.timestep_embedder
        embedded = mlp.linear_2(kernels.silu(mlp.linear_1(sinusoids)))
        return embedded, self.linear(kernels.silu(embedded))


class _TextProjection(nn.Cell):
    """Project text states to the width of the blocks."""

    def __init__(self, channels: int, width: int, precision: Precision):
        super().__init__()
        self.linear_1 = Projection(channels, width, precision)
        self.linear_2 = Projection(width, width, precision)

    def construct(self, states: Tensor) -> Tensor:
        return self.linear_2(
            kernels.bias_gelu_tanh(self.linear_1.without_bias(states), self.linear_1.offset(states))
        )


def place_table(shape: TextToVideoShape, grid: tuple[int, int]) -> NDArray[np.float64]:
    """Spatial position embedding (rows * columns, width): half of the channels for columns, half for rows.

    Positions of a grid of another size are scaled to the checkpoint's grid (PixArt-alpha).
    """
    base, half = shape.sample_size // shape.patch_size, shape.hidden_size // 2
    rows, columns = (np.arange(side) * base / side / shape.interpolation_scale for side in grid)
    by_column = np.tile(position_table(half, columns), (grid[0], 1))
    by_row = np.repeat(position_table(half, rows), grid[1], axis=0)
    return np.concatenate([by_column, by_row], axis=1)


def pack_text(states: NDArray[np.float32], mask: NDArray[Any]) -> NDArray[np.float32]:
    """Concatenate text states (..., N, D) and their mask (..., N), 1 at tokens, 0 at padding."""
    return np.concatenate([states, mask[..., None].astype(states.dtype)], axis=-1)


def initialise(model: Transformer, seed: int) -> None:
    """Initialise every parameter as PixArt-alpha does (Chen et al. 2023), from an independent random stream.

    Matrices are Xavier-uniform, biases zero, embedders have std 0.02, tables std 1 / sqrt(width); the output
    projections of cross-attention and of the model are zero.
    """
    for place, parameter in enumerate(model.get_parameters()):
        values = initial_values(parameter.name, parameter.shape, draw(seed, Stream.INIT, place))
        ops.assign(parameter, Tensor(values, parameter.dtype))


def initial_values(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    """The initial value of a parameter, by name."""
    if name.endswith("bias") or "attn2.to_out" in name or name.startswith("proj_out"):
        return np.zeros(shape, np.float32)
    if name.endswith("scale_shift_table"):
        return (generator.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32)
    if name.startswith(("adaln_single", "caption_projection")):
        return generator.normal(0, EMBEDDING_STD, shape).astype(np.float32)
    bound = np.sqrt(6.0 / (shape[0] + int(np.prod(shape[1:]))))  # Glorot & Bengio 2010
    return generator.uniform(-bound, bound, shape).astype(np.float32)
