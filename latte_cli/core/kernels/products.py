"""Matrix products fused with the preceding operator, whose result is recomputed in the backward pass.

For the compiled kernels only, float32.
"""

from mindspore import Tensor, nn

from latte_cli.core.kernels import fused


class NormLinear(nn.Cell):
    """(layer_norm(x) (1 + scale) + shift) @ weight.T: (B, N, D) to (B, N, outputs)."""

    def construct(self, x: Tensor, shift: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
        return fused.product()(fused.layer_norm()(x, shift, scale), weight)

    def bprop(
        self, x: Tensor, shift: Tensor, scale: Tensor, weight: Tensor, out: Tensor, dout: Tensor
    ) -> tuple[Tensor, ...]:
        """The gradients of the four inputs."""
        dy = fused.product_grad_x()(dout, weight)
        dx, dshift, dscale, y = fused.layer_norm_grad()(x, shift, scale, dy)
        return dx, dshift, dscale, fused.product_grad_weight()(dout, y)


class GeluLinear(nn.Cell):
    """gelu_tanh(x + bias) @ weight.T: (..., D) to (..., outputs)."""

    def construct(self, x: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
        return fused.product()(fused.bias_gelu()(x, bias), weight)

    def bprop(self, x: Tensor, bias: Tensor, weight: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
        """The gradients of the three inputs."""
        dy = fused.product_grad_x()(dout, weight)
        dx, dbias, y = fused.bias_gelu_grad()(x, bias, dy)
        return dx, dbias, fused.product_grad_weight()(dout, y)


norm_linear, gelu_linear = NormLinear(), GeluLinear()
