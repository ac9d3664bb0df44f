"""The compiled kernels as MindSpore operators, with their gradients. float32 in, float32 out."""

from collections.abc import Callable
from functools import cache
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops

from latte_cli.core.kernels.build import library_path

Infer = Callable[..., Any]  # inputs' shapes to outputs' shapes, and likewise for types


def _operator(name: str, infer: Infer, bprop: Callable[..., Any] | None = None) -> Any:
    """Give a function without arguments that yields the operator, in a graph too.

    MindSpore parses what a graph calls; a constexpr it runs instead, which leaves compiling to the first use.
    """

    @cache
    def make() -> Any:
        return ops.Custom(f"{library_path()}:{name}", infer, infer, "aot", bprop=bprop)

    return ops.constexpr(make, reuse_result=False)


# Outputs have the shapes and types of inputs. MindSpore inspects these: no lambdas, no star arguments.


def _like_x_shift_scale(x: Any, shift: Any, scale: Any) -> Any:
    return x


def _like_x_scale_scale(x: Any, scale: Any, dout: Any) -> Any:
    return x, scale, scale


def _like_x_gate_y_bias(x: Any, gate: Any, y: Any, bias: Any) -> Any:
    return x


def _like_gate_y_bias(gate: Any, y: Any, bias: Any, dout: Any) -> Any:
    return gate, y, bias


def _like_x(x: Any, bias: Any) -> Any:
    return x


def _like_x_bias(x: Any, bias: Any, dout: Any) -> Any:
    return x, bias


_layer_norm_grad = _operator("LatteLayerNormGrad", _like_x_scale_scale)
_gated_residual_grad = _operator("LatteGatedResidualGrad", _like_gate_y_bias)
_bias_gelu_grad = _operator("LatteBiasGeluGrad", _like_x_bias)


def _layer_norm_bprop(
    x: Tensor, shift: Tensor, scale: Tensor, out: Tensor, dout: Tensor
) -> tuple[Tensor, ...]:
    return _layer_norm_grad()(x, scale, dout)


def _gated_residual_bprop(
    x: Tensor, gate: Tensor, y: Tensor, bias: Tensor, out: Tensor, dout: Tensor
) -> tuple[Tensor, ...]:
    dgate, dy, dbias = _gated_residual_grad()(gate, y, bias, dout)
    return dout, dgate, dy, dbias


def _bias_gelu_bprop(x: Tensor, bias: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    return _bias_gelu_grad()(x, bias, dout)


# x (B, N, D), shift (B, D), scale (B, D) -> (B, N, D)
layer_norm = _operator("LatteLayerNorm", _like_x_shift_scale, _layer_norm_bprop)
# x (B, N, D), gate (B, D), y (B, N, D), bias (D) -> x + gate * (y + bias)
gated_residual = _operator("LatteGatedResidual", _like_x_gate_y_bias, _gated_residual_bprop)
# x (..., D), bias (D) -> gelu_tanh(x + bias)
bias_gelu = _operator("LatteBiasGelu", _like_x, _bias_gelu_bprop)


@cache
def _zeros(width: int) -> Tensor:
    return ms.Tensor([0.0] * width, ms.float32)


# width -> a constant of zeros: the bias of what has none
zeros: Any = ops.constexpr(_zeros, reuse_result=False)
