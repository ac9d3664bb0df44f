"""Products with what precedes them: the backward pass computes again what it would have to keep.

Compiled kernels only, float32.
"""

from mindspore import Tensor, nn, ops

from latte_cli.core.kernels import fused


class NormLinear(nn.Cell):
    """layer_norm(x) (1 + scale) + shift, times weight.T: (B, N, D) to (B * N, outputs)."""

    def construct(self, x: Tensor, shift: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
        return _forward(fused.layer_norm()(x, shift, scale), weight)

    def bprop(
        self, x: Tensor, shift: Tensor, scale: Tensor, weight: Tensor, out: Tensor, dout: Tensor
    ) -> tuple[Tensor, ...]:
        """The gradients of the four inputs."""
        dy = ops.MatMul()(dout, weight).reshape(x.shape)
        dx, dshift, dscale, y = fused.layer_norm_grad()(x, shift, scale, dy)
        return dx, dshift, dscale, _weight_gradient(y, dout)


class GeluLinear(nn.Cell):
    """gelu_tanh(x + bias) times weight.T: (..., D) to (rows, outputs)."""

    def construct(self, x: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
        return _forward(fused.bias_gelu()(x, bias), weight)

    def bprop(self, x: Tensor, bias: Tensor, weight: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
        """The gradients of the three inputs."""
        dy = ops.MatMul()(dout, weight).reshape(x.shape)
        dx, dbias, y = fused.bias_gelu_grad()(x, bias, dy)
        return dx, dbias, _weight_gradient(y, dout)


def _forward(y: Tensor, weight: Tensor) -> Tensor:
    return ops.MatMul(transpose_b=True)(y.reshape(-1, y.shape[-1]), weight)


def _weight_gradient(y: Tensor, dout: Tensor) -> Tensor:
    return ops.MatMul(transpose_a=True)(dout, y.reshape(-1, y.shape[-1]))


norm_linear, gelu_linear = NormLinear(), GeluLinear()
