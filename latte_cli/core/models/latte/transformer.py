"""Latte: a transformer over video latents with alternating spatial and temporal blocks (arXiv 2401.03048).

Parameter names and shapes are those of the PyTorch original, so its checkpoints need no mapping.
"""

from collections.abc import Iterable
from functools import partial

import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from numpy.typing import NDArray

from latte_cli.core.kernels import operators as kernels
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.models.latte.layers import (
    Block,
    FinalLayer,
    LabelEmbedder,
    Linear,
    PatchEmbedder,
    Silu,
    TimestepEmbedder,
)
from latte_cli.core.models.latte.shape import TEXT_FEATURES, LatteShape
from latte_cli.core.models.positions import frame_table, token_table
from latte_cli.core.models.weights import DTYPES, set_parameter
from latte_cli.core.rng import Stream, draw

EMBEDDING_STD = 0.02  # of the label table and the timestep MLP (Peebles & Xie 2023)
AXES = ("space", "time")  # of the blocks, alternating


class Latte(nn.Cell):
    """Predicts the noise in latents and, if learned, its variance.

    `dtype` is the type of the blocks' matrix products; parameters, residuals, normalisation and softmax stay
    float32. Timesteps are below `num_timesteps`.
    """

    timestep_embedder = "t_embedder"

    def __init__(self, shape: LatteShape, *, num_timesteps: int = 1000, dtype: str = "float32"):
        super().__init__()
        width, patch = shape.hidden_size, shape.patch_size
        self.shape = shape
        self.learn_sigma, self.num_classes = shape.learn_sigma, shape.num_classes
        self.x_embedder = PatchEmbedder(shape.in_channels, width, patch, shape.patch_embedder)
        self.t_embedder = TimestepEmbedder(width, num_timesteps)
        if shape.num_classes is not None:
            self.y_embedder = LabelEmbedder(shape.num_classes, width)
        if shape.condition == "text":
            self.text_embedding_projection = nn.SequentialCell(Silu(), Linear(TEXT_FEATURES, width))
        self.pos_embed = _table(token_table(width, shape.sample_size // patch))
        self.temp_embed = _table(frame_table(width, shape.num_frames))
        block = partial(
            Block, width, shape.num_heads, shape.mlp_size, tokens=shape.tokens, dtype=DTYPES[dtype]
        )
        self.blocks = nn.CellList([block(axis=AXES[place % 2]) for place in range(shape.depth)])
        self.final_layer = FinalLayer(width, patch * patch * shape.out_channels)

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(F, C, h, w) of the latents of its clips."""
        shape = self.shape
        return shape.num_frames, shape.in_channels, shape.sample_size, shape.sample_size

    def config(self) -> None:
        """None: the shape is known from the tensors."""

    def lora_targets(self) -> Iterable[tuple[str, nn.Cell]]:
        """None: the fused blocks do not support LoRA."""
        return ()

    def every_block(self) -> Iterable[nn.Cell]:
        """The blocks, alternating between space and time."""
        return self.blocks

    def use_flash_attention(self) -> None:
        """Use Ascend's fused attention operator in every block; call before compilation."""
        for block in self.blocks:
            block.attn.flash_attention = True

    def construct(self, x_t: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """`prepare` the condition and `predict` at integer timesteps (B,)."""
        return self.predict(x_t, self.t_embedder.sinusoids(timesteps), self.prepare(condition))

    def prepare(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Embed the condition of a clip and of I still images after it: (B, 1 + I, D), added to the timestep.

        `condition` is (B, 1 + I) class labels or (B, 1, 77, 768) text states. An unconditional model returns
        it and ignores it.
        """
        clips, width = condition.shape[0], self.shape.hidden_size
        if self.shape.condition == "class":
            return (self.y_embedder(condition.reshape(-1)).reshape(clips, -1, width),)
        if self.shape.condition == "text":
            flat = condition.reshape(clips, -1)
            return (self.text_embedding_projection(flat).reshape(clips, 1, width),)
        return (condition,)

    def predict(self, x_t: Tensor, sinusoids: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Predict from noised latents (B, F, C, h, w): (B, F, C or 2C, h, w) float32.

        `sinusoids` (B, 256) are `timestep_rows`. For more than `num_frames` frames see `predict_joint`.
        """
        if x_t.shape[1] > self.shape.num_frames:
            return self.predict_joint(x_t, self.t_embedder(sinusoids), prepared)
        modulation = self.modulation(sinusoids, prepared)
        return self.finish(self.run_blocks(self.embed(x_t), modulation, prepared), modulation)

    def modulation(self, sinusoids: Tensor, prepared: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The modulation of the blocks and of the final layer: (B, D) each."""
        timestep = self.t_embedder(sinusoids)
        if self.shape.condition == "none":
            return timestep, timestep
        conditioning = timestep + prepared[0][:, 0]
        # The original's text model conditions its blocks on the text, its final layer on the timestep only.
        return conditioning, timestep if self.shape.condition == "text" else conditioning

    def run_blocks(
        self, tokens: Tensor, modulation: tuple[Tensor, Tensor], prepared: tuple[Tensor, ...]
    ) -> Tensor:
        """Pass tokens (B, F * T, D) through every block; `prepared` is already in their modulation."""
        for place, block in enumerate(self.blocks):
            if place == 1:
                tokens = self.add_frame_places(tokens)
            tokens = block(tokens, modulation[0])
        return tokens

    def finish(self, tokens: Tensor, modulation: tuple[Tensor, Tensor]) -> Tensor:
        """Map tokens (B, F * T, D) after the blocks to the prediction (B, F, C or 2C, h, w)."""
        return self.unpatchify(self.final_layer(tokens, modulation[1]))

    def predict_joint(self, x_t: Tensor, timestep: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Predict from clips followed by still images, (B, F + I, C, h, w) (arXiv 2401.03048).

        Images pass through the spatial blocks as additional frames; temporal blocks and the frame table apply
        to the video only. `timestep` is (B, D).
        """
        clips, frames, width = x_t.shape[0], x_t.shape[1], self.shape.hidden_size
        video_frames = self.shape.num_frames
        conditioning = timestep
        of_frames = ops.broadcast_to(conditioning.reshape(clips, 1, width), (clips, frames, width))
        if self.shape.condition == "class":
            of_clip = prepared[0][:, :1]
            conditioning = conditioning + of_clip.reshape(clips, width)
            of_video = ops.broadcast_to(of_clip, (clips, video_frames, width))
            of_frames = of_frames + ops.concat((of_video, prepared[0][:, 1:]), 1)
        of_frames = of_frames.reshape(-1, width)
        tokens = self.embed(x_t)
        split = video_frames * self.shape.tokens
        for place, block in enumerate(self.blocks):
            if place % 2 == 0:
                tokens = block(tokens.reshape(clips * frames, -1, width), of_frames)
                tokens = tokens.reshape(clips, -1, width)
            else:
                video, images = tokens[:, :split], tokens[:, split:]
                if place == 1:
                    video = self.add_frame_places(video)
                tokens = ops.concat((block(video, conditioning), images), 1)
        patches = self.final_layer(tokens.reshape(clips * frames, -1, width), of_frames)
        return self.unpatchify(patches.reshape(clips, -1, patches.shape[2]))

    def embed(self, x_t: Tensor) -> Tensor:
        """Map latents (B, F, C, h, w) to tokens (B, F * T, D) with spatial position embedding."""
        clips, frames, channels, height, width = x_t.shape
        tokens = self.x_embedder(x_t.reshape(clips * frames, channels, height, width))
        placed = kernels.add_spread(tokens, self.pos_embed, (1, *tokens.shape[1:]))
        return placed.reshape(clips, -1, tokens.shape[2])

    def add_frame_places(self, tokens: Tensor) -> Tensor:
        """Add the frame table to tokens (B, F * T, D)."""
        clips, _, width = tokens.shape
        frames = self.shape.num_frames
        moving = tokens.reshape(clips, frames, -1, width)
        return kernels.add_spread(moving, self.temp_embed, (1, frames, 1, width)).reshape(tokens.shape)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Map patches (B, F * T, p * p * C), pixels before channels, to (B, F, C, h, w)."""
        clips = patches.shape[0]
        side, patch, channels = self.shape.sample_size, self.shape.patch_size, self.shape.out_channels
        grid = patches.reshape(-1, side // patch, side // patch, patch, patch, channels)
        return grid.transpose(0, 5, 1, 3, 2, 4).reshape(clips, -1, channels, side, side)


def initialise(model: Transformer, seed: int) -> None:
    """Initialise every parameter as the original does, each from an independent random stream.

    Matrices are Xavier-uniform, biases zero, embedders normal with std 0.02; adaLN and the final layer are
    so that every block starts as the identity.
    """
    for place, parameter in enumerate(model.get_parameters()):
        if parameter.requires_grad:
            generator = draw(seed, Stream.INIT, place)
            set_parameter(parameter, _initial(parameter.name, parameter.shape, generator))


def _table(values: NDArray[np.float64]) -> Parameter:
    return Parameter(Tensor(values[None].astype(np.float32)), requires_grad=False)


def _initial(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    if name.endswith("bias") or "adaLN_modulation" in name or name.startswith("final_layer"):
        return np.zeros(shape, np.float32)
    if name.startswith(("t_embedder", "y_embedder")):
        return generator.normal(0, EMBEDDING_STD, shape).astype(np.float32)
    outputs, inputs = shape[0], int(np.prod(shape[1:]))
    bound = np.sqrt(6.0 / (inputs + outputs))  # Glorot & Bengio 2010
    return generator.uniform(-bound, bound, shape).astype(np.float32)
