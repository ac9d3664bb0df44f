# ruff: noqa: A001, A002  (the parameters keep the names that mint gives them)
"""What MindONE needs on a CPU: the kernels that `mindspore.mint` has for Ascend only, and silent imports.

Each function below has the name, the parameters and the result of the `mint` function whose place it takes.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import mindspore as ms
from mindspore import Tensor, mint, ops

from latte_cli.core.models.vae.convolution import conv2d

Function = Callable[..., Any]


def supply_cpu_kernels() -> None:
    """Put operators that run on a CPU in the place of MindSpore's Ascend-only ones.

    On another device, and when called again, it does nothing. Call it before MindONE builds a model. What
    MindONE already imported by value is replaced too.
    """
    if ms.get_context("device_target") != "CPU" or mint.stack is stack:
        return
    replaced: dict[int, Function] = {}
    for owner, replacements in ((mint, MINT), (mint.nn.functional, FUNCTIONAL)):
        for replacement in replacements:
            name = replacement.__name__
            replaced[id(getattr(owner, name))] = replacement
            setattr(owner, name, replacement)
    for cell, construct in CONSTRUCTS.items():
        cell.construct = construct
    Tensor.repeat_interleave = repeat_interleave
    Tensor.nonzero = nonzero
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("mindone."):
            for name, value in list(vars(module).items()):
                if id(value) in replaced:
                    setattr(module, name, replaced[id(value)])


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Import MindONE and transformers without their chatter: prints on stdout, warnings, notes."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def stack(tensors: Any, dim: int = 0) -> Tensor:
    return ops.stack(tensors, axis=dim)


def arange(start: Any = 0, end: Any = None, step: Any = 1, *, dtype: Any = None) -> Tensor:
    return ops.arange(start, end, step, dtype=dtype)


def ones_like(input: Tensor, *, dtype: Any = None) -> Tensor:
    return ops.ones_like(input, dtype=dtype)


def randn(*size: Any, generator: Any = None, dtype: Any = None) -> Tensor:
    """Initial values of parameters that a checkpoint then replaces: `generator` is not looked at."""
    shape = size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    return ops.standard_normal(tuple(shape)).astype(dtype or ms.float32)


def randn_like(input: Tensor, *, dtype: Any = None) -> Tensor:
    return ops.standard_normal(input.shape).astype(dtype or input.dtype)


def repeat_interleave(
    input: Tensor, repeats: int, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """`repeats` is a number: MindONE never passes a count for each row."""
    if dim is None:
        input, dim = input.reshape((-1,)), 0
    shape = input.shape
    dim = dim % len(shape)
    wide = input.expand_dims(dim + 1).broadcast_to((*shape[: dim + 1], repeats, *shape[dim + 1 :]))
    return wide.reshape((*shape[:dim], shape[dim] * repeats, *shape[dim + 1 :]))


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Places that are not zero: (count, axes), or a tensor for each axis."""
    places = ops.NonZero()(input)
    return tuple(places[:, axis] for axis in range(input.ndim)) if as_tuple else places


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    return input.reshape((-1, 1)) * vec2.reshape((1, -1))


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """With beta 0 the input is never read: MindONE passes uninitialised memory then."""
    product = ops.bmm(batch1, batch2) * alpha
    return product if beta == 0 else input * beta + product


def einsum(equation: str, *operands: Any) -> Tensor:
    """Permutations only ("nhwpqc->nchpwq"), which is all that MindONE's Latte asks for."""
    before, after = equation.replace(" ", "").split("->")
    if sorted(before) != sorted(after) or len(set(before)) != len(before):
        raise NotImplementedError(f"einsum on CPU permutes only, got {equation}")
    return operands[0].permute(tuple(before.index(axis) for axis in after))


def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    return ops.gelu(input, approximate=approximate)


def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    weight = ops.ones(shape, input.dtype) if weight is None else weight
    bias = ops.zeros(shape, input.dtype) if bias is None else bias
    axis = input.ndim - len(shape)
    return ops.LayerNorm(axis, axis, eps)(input, weight, bias)[0]


def embedding(input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Rows of a table: the norm limit and padding row of the original only matter to training."""
    return ops.gather(weight, input, 0)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return ops.dropout(input, p, training)


def pad(input: Tensor, pad: Any, mode: str = "constant", value: float = 0.0) -> Tensor:
    if mode == "constant" and value == 0 and min(pad) >= 0:
        # The gradient of ops.pad runs 17 times in a compiled function and then never ends.
        sides = [(0, 0)] * (input.ndim - len(pad) // 2)
        sides += [(pad[place], pad[place + 1]) for place in range(len(pad) - 2, -1, -2)]
        return ops.Pad(tuple(sides))(input)
    return ops.pad(input, pad, mode, value if mode == "constant" else None)


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    return ops.mse_loss(input, target, reduction)


def _construct_conv2d(self: Any, input: Tensor) -> Tensor:
    return conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def _construct_gelu(self: Any, input: Tensor) -> Tensor:
    return ops.gelu(input, approximate=self.approximate)


def _construct_layer_norm(self: Any, input: Tensor) -> Tensor:
    return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


def _construct_embedding(self: Any, input: Tensor) -> Tensor:
    return ops.gather(self.weight, input, 0)


def _construct_dropout(self: Any, input: Tensor) -> Tensor:
    return ops.dropout(input, self.p, self.training)


MINT = (stack, arange, ones_like, randn, randn_like, repeat_interleave, outer, baddbmm, einsum)
FUNCTIONAL = (conv2d, gelu, layer_norm, embedding, dropout, pad, mse_loss)
CONSTRUCTS: dict[Any, Function] = {
    mint.nn.Conv2d: _construct_conv2d,
    mint.nn.GELU: _construct_gelu,
    mint.nn.LayerNorm: _construct_layer_norm,
    mint.nn.Embedding: _construct_embedding,
    mint.nn.Dropout: _construct_dropout,
}
