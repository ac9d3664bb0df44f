"""The compiled kernels as MindSpore operators, with gradients. Inputs and outputs are float32."""

from collections.abc import Callable
from functools import cache
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops

from latte_cli.core.kernels.build import library_path

Infer = Callable[..., Any]  # maps inputs' shapes to outputs' shapes, or types to types


def operator_of(name: str, infer: Infer, bprop: Infer | None = None, infer_dtype: Infer | None = None) -> Any:
    """A function without arguments that returns the operator, also in a graph.

    MindSpore parses functions called in a graph, but executes a constexpr; so kernels are compiled on first
    use.
    """

    @cache
    def make() -> Any:
        return ops.Custom(f"{library_path()}:{name}", infer, infer_dtype or infer, "aot", bprop=bprop)

    return ops.constexpr(make, reuse_result=False)


# Shapes and types of outputs from those of inputs. MindSpore inspects these: no lambdas, no star arguments.


def _like_x_shift_scale(x: Any, shift: Any, scale: Any) -> Any:
    return x


def _like_x_shift_scale_x(x: Any, shift: Any, scale: Any, dout: Any) -> Any:
    return x, shift, scale, x


def _like_x_gate_y_bias(x: Any, gate: Any, y: Any, bias: Any) -> Any:
    return x


def _like_gate_y_bias(gate: Any, y: Any, bias: Any, dout: Any) -> Any:
    return gate, y, bias


def _like_x(x: Any, bias: Any) -> Any:
    return x


def _like_x_bias_x(x: Any, bias: Any, dout: Any) -> Any:
    return x, bias, x


def _like_bias(x: Any, bias: Any) -> Any:
    return bias


def _like_only_x(x: Any) -> Any:
    return x


def _like_x_of_grad(x: Any, dout: Any) -> Any:
    return x


def _attention_out_shape(qkv: Any, bias: Any, facts: Any) -> Any:
    return [qkv[0], qkv[1], qkv[2] // 3]


def _attention_out_dtype(qkv: Any, bias: Any, facts: Any) -> Any:
    return qkv


def _like_qkv_bias(qkv: Any, bias: Any, facts: Any, dout: Any) -> Any:
    return qkv, bias


def _product_shape(x: Any, weight: Any) -> Any:
    return [*x[:-1], weight[0]]


def _product_dtype(x: Any, weight: Any) -> Any:
    return x


def _like_weight_shape(dout: Any, weight: Any) -> Any:
    return [*dout[:-1], weight[1]]


def _weight_shape(dout: Any, x: Any) -> Any:
    return [dout[-1], x[-1]]


def _like_dout(dout: Any, other: Any) -> Any:
    return dout


def _like_channel(last: Any, channel: Any) -> Any:
    return channel


# Gradients that also return the forward result, so that a following product need not store it.
layer_norm_grad = operator_of("LatteLayerNormGrad", _like_x_shift_scale_x)
bias_gelu_grad = operator_of("LatteBiasGeluGrad", _like_x_bias_x)
# dout (..., N), weight (N, K) -> dout @ weight (..., K)
product_grad_x = operator_of("LatteProductGradX", _like_weight_shape, infer_dtype=_like_dout)
# dout (..., N), x (..., K) -> dout.T @ x (N, K)
product_grad_weight = operator_of("LatteProductGradW", _weight_shape, infer_dtype=_like_dout)
_gated_residual_grad = operator_of("LatteGatedResidualGrad", _like_gate_y_bias)
_silu_grad = operator_of("LatteSiluGrad", _like_x_of_grad)
_softmax_grad = operator_of("LatteSoftmaxGrad", _like_x_of_grad)
_column_sum = operator_of("LatteColumnSum", _like_bias)
_attention_grad = operator_of("LatteAttentionGrad", _like_qkv_bias)


# Outputs are indexed: unpacking them would create a cycle in the graph of a recomputed block.


def _layer_norm_bprop(
    x: Tensor, shift: Tensor, scale: Tensor, out: Tensor, dout: Tensor
) -> tuple[Tensor, ...]:
    found = layer_norm_grad()(x, shift, scale, dout)
    return found[0], found[1], found[2]


def _gated_residual_bprop(
    x: Tensor, gate: Tensor, y: Tensor, bias: Tensor, out: Tensor, dout: Tensor
) -> tuple[Tensor, ...]:
    dgate, dy, dbias = _gated_residual_grad()(gate, y, bias, dout)
    return dout, dgate, dy, dbias


def _bias_gelu_bprop(x: Tensor, bias: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    found = bias_gelu_grad()(x, bias, dout)
    return found[0], found[1]


def _product_bprop(x: Tensor, weight: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    return product_grad_x()(dout, weight), product_grad_weight()(dout, x)


def _add_bias_bprop(x: Tensor, bias: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    return dout, _column_sum()(dout, bias)


def _silu_bprop(x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    return (_silu_grad()(x, dout),)


def _softmax_bprop(x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    return (_softmax_grad()(out, dout),)


def _attention_bprop(
    qkv: Tensor, bias: Tensor, facts: Tensor, out: Tensor, dout: Tensor
) -> tuple[Tensor, ...]:
    dqkv, dbias = _attention_grad()(qkv, bias, facts, dout)
    return dqkv, dbias, ops.zeros_like(facts)


# x (B, N, D), shift (B, D), scale (B, D) -> (B, N, D)
layer_norm = operator_of("LatteLayerNorm", _like_x_shift_scale, _layer_norm_bprop)
# x (B, N, D), gate (B, D), y (B, N, D), bias (D) -> x + gate * (y + bias)
gated_residual = operator_of("LatteGatedResidual", _like_x_gate_y_bias, _gated_residual_bprop)
# x (..., D), bias (D) -> gelu_tanh(x + bias)
bias_gelu = operator_of("LatteBiasGelu", _like_x, _bias_gelu_bprop)
# x (..., D) -> x sigmoid(x)
silu = operator_of("LatteSilu", _like_only_x, _silu_bprop)
# x (..., N) -> softmax over the last axis
softmax = operator_of("LatteSoftmax", _like_only_x, _softmax_bprop)
# x (..., K), weight (N, K) -> x @ weight.T (..., N)
product = operator_of("LatteProduct", _product_shape, _product_bprop, _product_dtype)
# x (..., D), bias (D) -> x + bias
add_bias = operator_of("LatteAddBias", _like_x, _add_bias_bprop)
# qkv (B, N, 3D), bias (3D), facts (3): see `attention_facts` -> (B, N, D)
attention = operator_of("LatteAttention", _attention_out_shape, _attention_bprop, _attention_out_dtype)
# any tensor, channel (1) int64 -> count (1) int64: see `signal.announce`
announce = operator_of("LatteAnnounce", _like_channel)


@cache
def _zeros(width: int) -> Tensor:
    return ms.Tensor([0.0] * width, ms.float32)


# width -> a constant of zeros: the bias of operators without one
zeros: Any = ops.constexpr(_zeros, reuse_result=False)


@cache
def _attention_facts(num_heads: int, num_frames: int, axis: str) -> Tensor:
    return ms.Tensor([num_heads, num_frames, int(axis == "time")], ms.int64)


# (num_heads, num_frames, axis) -> a constant that describes the layout to the kernel
attention_facts: Any = ops.constexpr(_attention_facts, reuse_result=False)
