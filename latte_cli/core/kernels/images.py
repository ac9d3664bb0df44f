"""The compiled kernels for images (N, C, H, W), float32, as MindSpore operators with gradients."""

from functools import cache
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops

from latte_cli.core.kernels.fused import operator_of

# Shapes and types of outputs from those of inputs. MindSpore inspects these: no lambdas, no star arguments.


def _same_shape(x: Any, weight: Any, bias: Any) -> Any:
    return [x[0], weight[0], x[2], x[3]]


def _halved_shape(x: Any, weight: Any, bias: Any) -> Any:
    return [x[0], weight[0], (x[2] - weight[2]) // 2 + 1, (x[3] - weight[3]) // 2 + 1]


def _convolved_dtype(x: Any, weight: Any, bias: Any) -> Any:
    return x


def _convolution_grad_shape(x: Any, weight: Any, dout: Any) -> Any:
    return x, weight, [weight[0]]


def _convolution_grad_dtype(x: Any, weight: Any, dout: Any) -> Any:
    return x, weight, x


def _like_normalised(x: Any, scale: Any, shift: Any, facts: Any) -> Any:
    return x


def _like_x_scale_shift(x: Any, scale: Any, shift: Any, facts: Any, dout: Any) -> Any:
    return x, scale, shift


def _doubled_shape(x: Any) -> Any:
    return [x[0], x[1], x[2] * 2, x[3] * 2]


def _doubled_dtype(x: Any) -> Any:
    return x


def _undoubled_shape(dout: Any) -> Any:
    return [dout[0], dout[1], dout[2] // 2, dout[3] // 2]


_convolution_grad = operator_of(
    "LatteConvolutionGrad", _convolution_grad_shape, infer_dtype=_convolution_grad_dtype
)
_group_norm_grad = operator_of("LatteGroupNormGrad", _like_x_scale_shift)
_double_grad = operator_of("LatteDoubleGrad", _undoubled_shape, infer_dtype=_doubled_dtype)


def _convolution_bprop(
    x: Tensor, weight: Tensor, bias: Tensor, out: Tensor, dout: Tensor
) -> tuple[Tensor, ...]:
    return _convolution_grad()(x, weight, dout)


def _group_norm_bprop(
    x: Tensor, scale: Tensor, shift: Tensor, facts: Tensor, out: Tensor, dout: Tensor
) -> tuple[Tensor, ...]:
    dx, dscale, dshift = _group_norm_grad()(x, scale, shift, facts, dout)
    return dx, dscale, dshift, ops.zeros_like(facts)


def _double_bprop(x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    return (_double_grad()(dout),)


# x (N, C, H, W), weight (O, C, kh, kw) of odd size, bias (O) -> (N, O, H, W), zero padding
convolve_same = operator_of("LatteConvolution", _same_shape, _convolution_bprop, _convolved_dtype)
# the same with stride 2, no padding -> (N, O, (H - kh) // 2 + 1, (W - kw) // 2 + 1)
convolve_halving = operator_of("LatteConvolution", _halved_shape, _convolution_bprop, _convolved_dtype)
# x, scale (C), shift (C), facts (3): see `group_norm_facts` -> group normalisation of x
group_norm = operator_of("LatteGroupNorm", _like_normalised, _group_norm_bprop)
# x (N, C, H, W) -> (N, C, 2H, 2W), nearest neighbour
double = operator_of("LatteDouble", _doubled_shape, _double_bprop, _doubled_dtype)


@cache
def _group_norm_facts(groups: int, eps: float, silu: bool) -> Tensor:
    return ms.Tensor([groups, eps, silu], ms.float32)


# (groups, eps, whether SiLU follows) -> a constant with these for the kernel
group_norm_facts: Any = ops.constexpr(_group_norm_facts, reuse_result=False)
